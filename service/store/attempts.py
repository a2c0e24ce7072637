"""Attempts at trials: started, in progress, ended. Every write is refused once the lease is lost.

An attempt's start and its end are one transaction each, over our tables and Optuna's.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Update, case, func, select, true, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from mudman.results import Fault, Outcome, TrialResult
from service.store import events, leases, optuna_rows
from service.store.leases import Lease
from service.store.result_parts import result_parts
from service.store.tables import EnqueuedTrial, OutcomeCount, Study, Trial

_VERDICTS = frozenset(Outcome) - {Outcome.LOST, Outcome.CANCELLED}
"""Outcomes that a trial reaches by itself: the runner that delivers one works."""


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

    @classmethod
    def of(cls, result: TrialResult) -> "Ending":
        return cls(result.outcome, result.value, result.violation, _reason(result.outcome, result.fault))


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


def start(
    session: Session,
    lease: Lease,
    study_id: str,
    ordinal: int,
    attempt: int,
    hyperparameters: dict[str, float],
    *,
    number: int,
    distributions: dict[str, str],
    opened: tuple[int, ...] | None = None,
    enqueued: int | None = None,
) -> bool:
    """The attempt is about to run. May be repeated: False if it was known already. Raises ``LeaseLost``.

    ``number``, ``distributions``: as for ``optuna_rows.start``. ``opened``: of a first attempt, the ordinals that were
    open when it was sampled. ``enqueued``: sequence of the enqueued trial that it takes.
    """
    leases.guard(session, lease)
    row = {"study_id": study_id, "ordinal": ordinal, "attempt": attempt, "epoch": lease.epoch}
    added = session.execute(insert(Trial).values(hyperparameters=hyperparameters, **row).on_conflict_do_nothing())
    if not added.rowcount:
        return False
    notes = {"ordinal": ordinal, "attempt": attempt}
    if opened is not None:
        notes["open_when_asked"] = list(opened)
    optuna_id = optuna_rows.start(session, study_id, number, hyperparameters, distributions, notes)
    session.execute(_row(study_id, ordinal, attempt).values(optuna_id=optuna_id))
    if enqueued is not None:
        taken = update(EnqueuedTrial).where(EnqueuedTrial.study_id == study_id, EnqueuedTrial.sequence == enqueued)
        session.execute(taken.values(ordinal=ordinal))
    events.append(session, study_id, "trial_started", {"ordinal": ordinal, "attempt": attempt})
    return True


def progress(
    session: Session,
    lease: Lease,
    study_id: str,
    ordinal: int,
    attempt: int,
    progress: dict[str, Any] | None,
    worker: dict[str, Any] | None,
) -> None:
    """How far a running attempt is, and where it runs; with its first word it has started. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    started = case((Trial.worker.is_(None), func.now()), else_=Trial.started_at)
    values = {"progress": progress, "worker": worker, "started_at": started}
    session.execute(_unfinished(study_id, ordinal, attempt).values(values))


def record(session: Session, lease: Lease, study_id: str, ordinal: int, attempt: int, result: TrialResult) -> bool:
    """The attempt has ended. False if its end is known already: the first one stands. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    stored = _storable(result)
    log = stored.pop("log")
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
        )
    _count(session, study_id, result.outcome, float(seconds))
    data = {"ordinal": ordinal, "attempt": attempt, "outcome": result.outcome, "value": result.value}
    events.append(session, study_id, "trial_finished", data)
    if result.outcome in _VERDICTS:
        leases.forget_failures(session, lease.group_id, lease.epoch)
    return True


def _count(session: Session, study_id: str, outcome: Outcome, seconds: float) -> None:
    row = insert(OutcomeCount).values(study_id=study_id, outcome=outcome, attempts=1, seconds=seconds)
    more = {"attempts": OutcomeCount.attempts + 1, "seconds": OutcomeCount.seconds + row.excluded.seconds}
    session.execute(row.on_conflict_do_update(index_elements=["study_id", "outcome"], set_=more))


def history(session: Session, study_id: str) -> list[Record]:
    """Every attempt of the study by ordinal and attempt, without curves and logs."""
    parts = result_parts(violation=Float, fault=JSONB)
    query = (
        select(
            Trial.ordinal,
            Trial.attempt,
            Trial.hyperparameters,
            Trial.outcome,
            Trial.value,
            parts.c.violation,
            parts.c.fault,
            (Trial.started_at < Study.queued_at).label("earlier"),
        )
        .join_from(Trial, Study, Study.id == Trial.study_id)
        .outerjoin(parts, true())
        .where(Trial.study_id == study_id)
        .order_by(Trial.ordinal, Trial.attempt)
    )
    return [
        Record(row.ordinal, row.attempt, row.hyperparameters, _ending(row), row.earlier)
        for row in session.execute(query)
    ]


def _ending(row) -> Ending | None:
    if row.outcome is None:
        return None
    outcome = Outcome(row.outcome)
    fault = Fault(**row.fault) if row.fault else None
    return Ending(outcome, row.value, row.violation, _reason(outcome, fault))


def _reason(outcome: Outcome, fault: Fault | None) -> str:
    return f"{outcome.value}: {fault.type}: {fault.message}"[:1000] if fault else outcome.value


def _row(study_id: str, ordinal: int, attempt: int) -> Update:
    row = update(Trial).where(Trial.study_id == study_id, Trial.ordinal == ordinal, Trial.attempt == attempt)
    return row.execution_options(synchronize_session=False)


def _unfinished(study_id: str, ordinal: int, attempt: int) -> Update:
    return _row(study_id, ordinal, attempt).where(Trial.outcome.is_(None))


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
