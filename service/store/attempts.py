"""Attempts at trials: started, in progress, ended. Every write is refused once the lease is lost.

An attempt's start and its end are one transaction each, over our tables and Optuna's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Update, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.results import Curve, Fault, Outcome, TrialResult
from service.store import events, leases, optuna_rows
from service.store.leases import Lease
from service.store.tables import EnqueuedTrial, OutcomeCount, Study, Trial

_VERDICTS = frozenset(Outcome) - {Outcome.LOST, Outcome.CANCELLED}
"""Outcomes that a trial reaches by itself: the runner that delivers one works."""

PART = 2000
"""Rows that are fetched at a time: while all of a large study are unpacked, the server would take the session for
frozen."""
LOG_HEAD, LOG_TAIL = 16_384, 49_152
"""Characters of a trial's log that are kept from its beginning and from its end."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as far as the search needs to know."""

    outcome: Outcome
    value: float | None = None
    """Objective, of a valid trial."""
    violation: float | None = None
    """Above 0: infeasible, by how much (in units of the budget)."""
    reason: str = ""
    """For people."""
    steps: dict[int, float] = field(default_factory=dict, hash=False)
    """Of a pruned trial: what was judged at the check that ended it, by passes of the attack."""

    @classmethod
    def of(cls, result: TrialResult) -> "Ending":
        reason = _reason(result.outcome, result.fault)
        steps = {} if result.judged is None else {result.relearning.passes[-1]: result.judged}
        return cls(result.outcome, result.value, result.violation, reason, steps)


@dataclass(frozen=True)
class Report:
    """What a running attempt says."""

    study_id: str
    ordinal: int
    attempt: int
    progress: dict[str, Any] | None
    worker: dict[str, Any] | None
    """Where it runs."""


@dataclass(frozen=True)
class Record:
    """One row of a study's history."""

    ordinal: int
    attempt: int
    hyperparameters: dict[str, float]
    ending: Ending | None
    """None while the attempt runs."""
    earlier: bool = False
    """Started before the study was queued last."""
    run_again: bool = False
    """Somebody asked for another attempt after this one."""


def start(
    session: Session,
    lease: Lease,
    study_id: str,
    ordinal: int,
    attempt: int,
    hyperparameters: dict[str, float],
    *,
    distributions: dict[str, str],
    opened: tuple[int, ...] | None = None,
    enqueued: int | None = None,
) -> bool:
    """The attempt is about to run. May be repeated: False if it was known already. Raises ``LeaseLost``, ``NoPlace``.

    ``distributions``: as for ``optuna_rows.start``. ``opened``: of a first attempt, the ordinals that were open when it
    was sampled. ``enqueued``: sequence of the enqueued trial that it takes.
    """
    leases.take_place(session, lease, study_id, ordinal, attempt)
    row = {"study_id": study_id, "ordinal": ordinal, "attempt": attempt, "epoch": lease.epoch}
    row |= {"hyperparameters": hyperparameters, "optuna_id": optuna_rows.reserve(session, study_id)}
    added = insert(Trial).values(row).on_conflict_do_nothing().returning(Trial.ordinal)
    if session.scalar(added) is None:
        return False
    notes = {"ordinal": ordinal, "attempt": attempt}
    if opened is not None:
        notes["open_when_asked"] = list(opened)
    optuna_rows.start(session, study_id, row["optuna_id"], hyperparameters, distributions, notes)
    if enqueued is not None:
        taken = update(EnqueuedTrial).where(EnqueuedTrial.study_id == study_id, EnqueuedTrial.sequence == enqueued)
        session.execute(taken.values(ordinal=ordinal))
    events.append(session, study_id, "trial_started", {"ordinal": ordinal, "attempt": attempt})
    return True


def progress(session: Session, lease: Lease, reports: Iterable[Report]) -> None:
    """How far running attempts are; with its first word one has started. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    # All of them in one go to the server, as many as there are.
    session.connection().execute(_PROGRESS, [{f"its_{name}": v for name, v in vars(r).items()} for r in reports])


def record(session: Session, lease: Lease, study_id: str, ordinal: int, attempt: int, result: TrialResult) -> bool:
    """The attempt has ended. False if its end is known already: the first one stands. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    stored = _storable(result)
    log = _bounded(stored.pop("log"))
    ended = session.execute(
        _unfinished(study_id, ordinal, attempt)
        .values(
            outcome=result.outcome, value=result.value, result=stored, log=log, progress=None, finished_at=func.now()
        )
        .returning(Trial.optuna_id, func.extract("epoch", Trial.finished_at - Trial.started_at))
    ).one_or_none()
    if ended is None:
        return False
    optuna_id, seconds = ended
    if optuna_id is not None:
        ending = Ending.of(result)
        optuna_rows.end(
            session,
            optuna_id,
            ending.outcome,
            value=ending.value,
            violation=ending.violation,
            reason=_storable(ending.reason),
            steps=_steps(result.relearning),
        )
    count(session, study_id, result.outcome, float(seconds))
    data = {"ordinal": ordinal, "attempt": attempt, "outcome": result.outcome, "value": result.value}
    if result.fault:
        data["reason"] = _storable(Ending.of(result).reason)
    events.append(session, study_id, "trial_finished", data)
    if result.outcome in _VERDICTS:
        leases.forget_failures(session, lease.group_id, lease.epoch)
    return True


def _steps(relearning: Curve) -> dict[int, float]:
    """What Optuna calls intermediate values: forget loss by passes of the attack, where it is a number."""
    points = zip(relearning.passes, relearning.forget_loss, strict=True)
    return {passes: loss for passes, loss in points if loss is not None}


def count(session: Session, study_id: str, outcome: Outcome, seconds: float) -> None:
    """One more attempt has ended so, after ``seconds``."""
    row = insert(OutcomeCount).values(study_id=study_id, outcome=outcome, attempts=1, seconds=seconds)
    more = {"attempts": OutcomeCount.attempts + 1, "seconds": OutcomeCount.seconds + row.excluded.seconds}
    session.execute(row.on_conflict_do_update(index_elements=["study_id", "outcome"], set_=more))


def history(session: Session, study_id: str) -> list[Record]:
    """Every attempt of the study by ordinal and attempt, without curves and logs."""
    query = (
        select(
            Trial.ordinal,
            Trial.attempt,
            Trial.hyperparameters,
            Trial.outcome,
            Trial.value,
            Trial.violation,
            Trial.reason,
            Trial.judged,
            Trial.judged_at,
            (Trial.started_at < Study.queued_at).label("earlier"),
            Trial.run_again,
        )
        .join_from(Trial, Study, Study.id == Trial.study_id)
        .where(Trial.study_id == study_id)
        .order_by(Trial.ordinal, Trial.attempt)
    )
    query = query.execution_options(yield_per=PART)
    return [
        Record(row.ordinal, row.attempt, row.hyperparameters, _ending(row), row.earlier, row.run_again)
        for row in session.execute(query)
    ]


def curves(session: Session, study_id: str) -> dict[int, Curve]:
    """Relearning curves of the trials that count, by ordinal."""
    counting = [outcome for outcome in Outcome if outcome.counts]
    query = select(Trial.ordinal, Trial.result["relearning"])
    query = query.where(Trial.study_id == study_id, Trial.outcome.in_(counting)).execution_options(yield_per=PART)
    return {ordinal: Curve.model_validate(curve) for ordinal, curve in session.execute(query)}


def unfinished(session: Session, study_id: str) -> list[tuple[int, int]]:
    """Ordinal and attempt of those without an end."""
    query = select(Trial.ordinal, Trial.attempt).where(Trial.study_id == study_id, Trial.outcome.is_(None))
    return list(session.execute(query.order_by(Trial.ordinal, Trial.attempt)).tuples())


def _ending(row) -> Ending | None:
    if row.outcome is None:
        return None
    steps = {} if row.judged is None else {row.judged_at: row.judged}
    return Ending(Outcome(row.outcome), row.value, row.violation, row.reason, steps)


def _reason(outcome: Outcome, fault: Fault | None) -> str:
    return f"{outcome.value}: {fault.type}: {fault.message}"[:1000] if fault else outcome.value


def _row(study_id: str, ordinal: int, attempt: int) -> Update:
    row = update(Trial).where(Trial.study_id == study_id, Trial.ordinal == ordinal, Trial.attempt == attempt)
    return row.execution_options(synchronize_session=False)


def _unfinished(study_id: str, ordinal: int, attempt: int) -> Update:
    return _row(study_id, ordinal, attempt).where(Trial.outcome.is_(None))


_PROGRESS = _unfinished(*(bindparam(f"its_{key}") for key in ("study_id", "ordinal", "attempt"))).values(
    progress=bindparam("its_progress", type_=Trial.progress.type),
    worker=bindparam("its_worker", type_=Trial.worker.type),
    started_at=case((Trial.worker.is_(None), func.now()), else_=Trial.started_at),
)


def _bounded(log: str) -> str:
    if len(log) <= LOG_HEAD + LOG_TAIL:
        return log
    left_out = len(log) - LOG_HEAD - LOG_TAIL
    return f"{log[:LOG_HEAD]}\n[… {left_out} characters left out …]\n{log[-LOG_TAIL:]}"


def _storable(value: Any) -> Any:
    """JSON that Postgres takes: no NUL and no half surrogate pairs, which a log or a traceback may hold."""
    match value:
        case TrialResult():
            return _storable(value.model_dump(mode="python"))
        case dict():
            return {key: _storable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_storable(inner) for inner in value]
        case str():
            return str(value).replace("\x00", "").encode("utf-8", "replace").decode()
        case _:
            return value
