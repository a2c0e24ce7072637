"""Where a study stands. Its trials are neither loaded nor counted for it: the counts are kept, and the few that run and
the best one are found over indexes of their own."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, ScalarSelect, and_, case, cast, exists, func, literal_column, or_, select
from sqlalchemy.orm import Session, aliased

from mudman.results import Outcome
from mudman.specs import StudySpec, minimised
from service.statistics.compute import Attempt, Tally
from service.store.attempts import ATTEMPTS
from service.store.states import LIVE
from service.store.tables import Group, OutcomeCount, Study, Trial

RUNNING = "running"
"""Key of ``counts`` for attempts without an outcome yet."""
COUNTING = tuple(str(outcome) for outcome in Outcome if outcome.counts)
# As the index of valid trials says it: of a parameter, a prepared statement does not know what it will be.
VALID = literal_column(f"'{Outcome.VALID}'")
_OTHERS = Trial.__table__.alias("others")


def counts(session: Session, study_id: str) -> dict[str, int]:
    """Attempts by outcome, and those that run now under ``running``."""
    return _counts(session, study_id)[0]


def _counts(session: Session, study_id: str) -> tuple[dict[str, int], float | None]:
    """With the mean seconds of an attempt that counts."""
    kept = select(OutcomeCount.outcome, OutcomeCount.attempts, OutcomeCount.seconds)
    found, seconds, finished = {}, 0.0, 0
    for outcome, count, spent in session.execute(kept.where(OutcomeCount.study_id == study_id)):
        found[outcome] = count
        if outcome in COUNTING:
            seconds, finished = seconds + spent, finished + count
    if live := running(session, [study_id]).get(study_id):
        found[RUNNING] = live
    return found, seconds / finished if finished else None


def running(session: Session, study_ids: Collection[str]) -> dict[str, int]:
    """Attempts of each study that have no outcome yet; studies without any are left out."""
    unfinished = select(Trial.study_id, func.count()).where(Trial.study_id.in_(study_ids), Trial.outcome.is_(None))
    return dict(session.execute(unfinished.group_by(Trial.study_id)).tuples().all())


def counting(session: Session, study_ids: Collection[str]) -> dict[str, int]:
    """Attempts of each study that count toward its budget; studies without any are left out."""
    kept = (OutcomeCount.study_id.in_(study_ids), OutcomeCount.outcome.in_(COUNTING))
    query = select(OutcomeCount.study_id, func.sum(OutcomeCount.attempts)).where(*kept)
    return dict(session.execute(query.group_by(OutcomeCount.study_id)).tuples().all())


def is_last() -> ColumnElement[bool]:
    """Of a trial's attempts the latest: the one that says how the trial stands."""
    later = aliased(Trial)
    same = (later.study_id == Trial.study_id, later.ordinal == Trial.ordinal)
    return ~exists().where(*same, later.attempt > Trial.attempt)


def runs_again() -> ColumnElement[bool]:
    """Of a trial's latest attempt: whether another one follows, as the runner has it."""
    ended = Trial.outcome.in_([str(outcome) for outcome in Outcome if outcome.runs_again])
    return or_(Trial.run_again, and_(ended, _losses() < ATTEMPTS))


def _losses() -> ScalarSelect[int]:
    """How often a trial was lost since somebody asked for another attempt at it last."""
    one, asked = aliased(Trial), aliased(Trial)
    same = (one.study_id == Trial.study_id, one.ordinal == Trial.ordinal, one.outcome == Outcome.LOST)
    later = (asked.study_id == one.study_id, asked.ordinal == one.ordinal, asked.attempt >= one.attempt)
    lost = select(func.count()).where(*same, ~exists().where(*later, asked.run_again))
    return lost.correlate(Trial).scalar_subquery()


def best(session: Session, study: Study) -> Trial | None:
    """The valid trial with the best value; of equal ones, the lowest ordinal. ``None`` while there is none."""
    top = _extreme(study.id, lowest=minimised(study.spec))
    equals = select(Trial).where(Trial.study_id == study.id, Trial.outcome == VALID, Trial.value == top)
    return session.scalars(equals.order_by(Trial.ordinal).limit(1)).first()


def best_value(session: Session, study: Study) -> float | None:
    return session.scalar(select(_extreme(study.id, lowest=minimised(study.spec))))


def best_values(session: Session, page: Collection[Study]) -> dict[str, float | None]:
    """Of several studies at once: two looks into the index for each, one of them in vain."""
    both = select(Study.id, _extreme(Study.id, lowest=True), _extreme(Study.id, lowest=False))
    found = session.execute(both.where(Study.id.in_([study.id for study in page])))
    ends = {study_id: (lowest, highest) for study_id, lowest, highest in found}
    return {study.id: ends[study.id][0 if minimised(study.spec) else 1] for study in page}


def _extreme(study_id: Any, *, lowest: bool) -> ScalarSelect:
    """One end of the index of valid trials."""
    valid, function = _OTHERS.c, func.min if lowest else func.max
    query = select(function(valid.value)).where(valid.study_id == study_id, valid.outcome == VALID)
    return query.correlate(Study).scalar_subquery()


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    trials: int
    """That count toward the budget."""
    budget: int
    running: int
    outcomes: dict[str, int]
    """Finished attempts by outcome."""
    best_value: float | None
    eta_seconds: float | None
    """Remaining trials × mean seconds of one that counts / trials at once. Unknown before the first such trial, and for
    a study that does not run."""
    live: list[Trial]


def progress(session: Session, study: Study, max_live: int | None, live: int = 100) -> Progress:
    """``max_live``: the group's share, where the dispatcher gave it one. ``live``: most running attempts to list."""
    found, seconds = _counts(session, study.id)
    running = found.pop(RUNNING, 0)
    counting = sum(found.get(outcome, 0) for outcome in COUNTING)
    top = best_value(session, study)
    spec = StudySpec.model_validate(study.spec)
    now = select(Trial).where(Trial.study_id == study.id, Trial.outcome.is_(None)).order_by(Trial.ordinal).limit(live)
    eta = None
    if seconds is not None and study.state in LIVE:
        remaining = max(spec.budget.trials - counting, 0)
        at_once = min(
            spec.resources.max_concurrent, max(max_live or spec.resources.max_concurrent, 1), max(remaining, 1)
        )
        eta = remaining * seconds / at_once
    return Progress(
        counting, spec.budget.trials, running, found, top, eta, list(session.scalars(now)) if running else []
    )


def whole_eta(session: Session, together: Collection[Study]) -> float | None:
    """Seconds until every one of these studies is complete: groups run beside each other, studies of a group share its
    places. A study without a trial that counts is taken to be as slow as the mean of the others; unknown before the
    first such trial, and where nothing is left to run."""
    ids = [study.id for study in together]
    kept = select(OutcomeCount.study_id, func.sum(OutcomeCount.attempts), func.sum(OutcomeCount.seconds))
    kept = kept.where(OutcomeCount.study_id.in_(ids), OutcomeCount.outcome.in_(COUNTING), OutcomeCount.attempts > 0)
    done = {study_id: (int(n), spent) for study_id, n, spent in session.execute(kept.group_by(OutcomeCount.study_id))}
    if not done:
        return None
    mean = sum(spent for _, spent in done.values()) / sum(n for n, _ in done.values())
    shares = select(Group.id, Group.max_live).where(Group.id.in_({study.group_id for study in together}))
    places = dict(session.execute(shares).tuples().all())
    left: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
    for study in together:
        spec = StudySpec.model_validate(study.spec)
        n, spent = done.get(study.id, (0, 0.0))
        if study.state in LIVE and (remaining := spec.budget.trials - n) > 0:
            left[study.group_id].append((remaining, spent / n if n else mean, spec.resources.max_concurrent))
    etas = []
    for group_id, studies in left.items():
        trials = sum(remaining for remaining, _, _ in studies)
        wanted = max(most for _, _, most in studies)
        at_once = min(wanted, max(places.get(group_id) or wanted, 1), trials)
        etas.append(sum(remaining * seconds for remaining, seconds, _ in studies) / at_once)
    return max(etas, default=None)


def by_outcome(session: Session, study_ids: Iterable[str]) -> dict[str, dict[str, Tally]]:
    """What each of several studies has found and spent, by outcome. Its trials are added up by the database: only the
    values of valid ones are fetched."""
    wanted = list(study_ids)
    values: dict[str, list[float]] = defaultdict(list)
    valid = select(Trial.study_id, Trial.ordinal, Trial.value).where(
        Trial.study_id.in_(wanted), Trial.outcome == VALID, Trial.value.is_not(None)
    )
    for study_id, _, value in sorted(session.execute(valid).tuples()):
        values[study_id].append(value)
    found = sums(session, wanted)  # later: it knows of each outcome that the values are of
    for study_id, of_valid in values.items():
        found[study_id][Outcome.VALID] = found[study_id][Outcome.VALID].over(of_valid)
    return found


def sums(session: Session, study_ids: Iterable[str]) -> dict[str, dict[str, Tally]]:
    """As ``by_outcome``, without values: the database adds up."""
    wanted = list(study_ids)
    spent = (
        func.sum(_SECONDS),
        *(func.sum(column) for column in (Trial.passes_booked, Trial.passes_made, Trial.passes_skipped)),
    )
    query = select(Trial.study_id, Trial.outcome, func.count(), *spent)
    query = query.where(Trial.study_id.in_(wanted), Trial.outcome.is_not(None))
    found: dict[str, dict[str, Tally]] = {study_id: {} for study_id in wanted}
    for study_id, outcome, count, seconds, *passes in session.execute(query.group_by(Trial.study_id, Trial.outcome)):
        found[study_id][outcome] = Tally([], {outcome: count}, seconds or 0.0, *(int(n or 0) for n in passes))
    return found


def finished(session: Session, study_ids: Iterable[str]) -> dict[str, list[Attempt]]:
    """Every finished attempt of each of these studies by ordinal and attempt, in one narrow query."""
    wanted = list(study_ids)
    query = FINISHED.where(Trial.study_id.in_(wanted), Trial.outcome.is_not(None)).execution_options(yield_per=PART)
    found: dict[str, list[Attempt]] = {study_id: [] for study_id in wanted}
    for study_id, *columns in session.execute(query):
        found[study_id].append(Attempt(*columns))
    for attempts in found.values():
        attempts.sort(key=lambda one: (one.ordinal, one.attempt))
    return found


def valid(session: Session, study_id: str) -> list[Attempt]:
    """Every valid trial by ordinal with its hyper-parameters, in one narrow query."""
    query = FINISHED.add_columns(Trial.hyperparameters).where(
        Trial.study_id == study_id, Trial.outcome == VALID, Trial.value.is_not(None)
    )
    rows = session.execute(query.execution_options(yield_per=PART))
    return sorted((Attempt(*columns) for _, *columns in rows), key=lambda one: one.ordinal)


def top(session: Session, study: Study, many: int) -> list[Attempt]:
    """The best valid trials with their hyper-parameters; of equal ones, the lowest ordinal first."""
    order = Trial.value.asc() if minimised(study.spec) else Trial.value.desc()
    query = FINISHED.add_columns(Trial.hyperparameters).where(
        Trial.study_id == study.id, Trial.outcome == VALID, Trial.value.is_not(None)
    )
    return [Attempt(*columns) for _, *columns in session.execute(query.order_by(order, Trial.ordinal).limit(many))]


PART = 2000
"""Rows that are fetched at a time."""
_ELAPSED = case((Trial.worker.is_(None), 0.0), else_=func.extract("epoch", Trial.finished_at - Trial.started_at))
_SECONDS = cast(func.coalesce(func.nullif(Trial.seconds, 0), _ELAPSED), Float)
FINISHED = select(
    Trial.study_id,
    Trial.ordinal,
    Trial.attempt,
    Trial.outcome,
    Trial.value,
    _SECONDS,
    func.coalesce(Trial.passes_booked, 0),
    func.coalesce(Trial.passes_made, 0),
    func.coalesce(Trial.passes_skipped, 0),
)
"""As the fields of ``Attempt`` follow each other."""
