"""Where a study stands: counted by the database, its trials never loaded for it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Float, case, func, select, true
from sqlalchemy.orm import Session

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store.result_parts import result_parts
from service.store.states import State
from service.store.tables import Study, Trial

RUNNING = "running"
"""Key of ``counts`` for attempts without an outcome yet."""
COUNTING = tuple(str(outcome) for outcome in Outcome if outcome.counts)


def counts(session: Session, study_id: str) -> dict[str, int]:
    """Attempts by outcome, and those that run now under ``running``; counted by the database, never loaded."""
    return _counts(session, study_id)[0]


def _counts(session: Session, study_id: str) -> tuple[dict[str, int], float | None]:
    seconds: ColumnElement = func.extract("epoch", Trial.finished_at - Trial.started_at)
    query = select(Trial.outcome, func.count(), func.sum(seconds)).where(Trial.study_id == study_id)
    found, total, finished = {}, 0.0, 0
    for outcome, count, spent in session.execute(query.group_by(Trial.outcome)):
        found[outcome or RUNNING] = count
        if outcome in COUNTING:
            total, finished = total + float(spent or 0.0), finished + count
    return found, total / finished if finished else None


def best(session: Session, study: Study) -> Trial | None:
    """The valid trial with the best value; of equal ones, the lowest ordinal. ``None`` while there is none."""
    valid = (Trial.study_id == study.id, Trial.outcome == Outcome.VALID, Trial.value.is_not(None))
    by_value = Trial.value.asc() if minimised(study.spec) else Trial.value.desc()
    return session.scalars(select(Trial).where(*valid).order_by(by_value, Trial.ordinal).limit(1)).first()


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
    if seconds is not None and study.state in (State.QUEUED, State.PREPARING, State.RUNNING):
        remaining = max(spec.budget.trials - counting, 0)
        at_once = min(
            spec.resources.max_concurrent, max(max_live or spec.resources.max_concurrent, 1), max(remaining, 1)
        )
        eta = remaining * seconds / at_once
    return Progress(
        counting, spec.budget.trials, running, found, top, eta, list(session.scalars(now)) if running else []
    )


def best_value(session: Session, study: Study) -> float | None:
    extreme = func.min(Trial.value) if minimised(study.spec) else func.max(Trial.value)
    return session.scalar(select(extreme).where(Trial.study_id == study.id, Trial.outcome == Outcome.VALID))


@dataclass(frozen=True)
class Tally:
    """What a study has found and spent so far."""

    values: list[float] = field(default_factory=list)
    """Objective of every valid trial, by ordinal."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Finished attempts by outcome."""
    seconds: float = 0.0
    """Of all attempts: those that the trials say, or where there are none, from start to end; none of what no worker
    ever began."""
    passes_booked: int = 0
    passes_made: int = 0


def tallies(session: Session, study_ids: Iterable[str]) -> dict[str, Tally]:
    """Of several studies at once."""
    wanted = Trial.study_id.in_(list(study_ids))
    values: dict[str, list[float]] = defaultdict(list)
    valid = select(Trial.study_id, Trial.value).where(wanted, Trial.outcome == Outcome.VALID, Trial.value.is_not(None))
    for study_id, value in session.execute(valid.order_by(Trial.study_id, Trial.ordinal)):
        values[study_id].append(value)

    reported = result_parts(seconds=Float, passes_booked=Float, passes_made=Float)
    elapsed = case((Trial.worker.is_(None), 0), else_=func.extract("epoch", Trial.finished_at - Trial.started_at))
    spent = (
        func.sum(func.coalesce(func.nullif(reported.c.seconds, 0), elapsed)),
        func.sum(reported.c.passes_booked),
        func.sum(reported.c.passes_made),
    )
    found: dict[str, Tally] = {}
    query = select(Trial.study_id, Trial.outcome, func.count(), *spent).outerjoin_from(Trial, reported, true())
    query = query.where(wanted, Trial.outcome.is_not(None))
    for study_id, outcome, count, *numbers in session.execute(query.group_by(Trial.study_id, Trial.outcome)):
        seconds, booked, made = (float(number or 0) for number in numbers)
        so_far = found.get(study_id, Tally(values[study_id]))
        found[study_id] = replace(
            so_far,
            outcomes=so_far.outcomes | {outcome: count},
            seconds=so_far.seconds + seconds,
            passes_booked=so_far.passes_booked + int(booked),
            passes_made=so_far.passes_made + int(made),
        )
    return found


def minimised(spec: dict[str, Any]) -> bool:
    """Whether lower values of the objective are better, by a stored spec."""
    return spec.get("objective", {}).get("direction") == "minimize"
