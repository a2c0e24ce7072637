"""Attempts at trials: started, in progress, ended. Every write is refused once the lease is lost."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Update, case, func, select, true, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from mudman.results import Fault, Outcome, TrialResult
from service.store import events, leases
from service.store.leases import Lease
from service.store.result_parts import result_parts
from service.store.tables import Study, Trial

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
    optuna_id: int | None
    hyperparameters: dict[str, float]
    told: bool
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
    optuna_id: int,
) -> None:
    """The attempt is about to run. May be repeated. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    added = session.execute(
        insert(Trial)
        .values(
            study_id=study_id,
            ordinal=ordinal,
            attempt=attempt,
            epoch=lease.epoch,
            hyperparameters=hyperparameters,
            optuna_id=optuna_id,
        )
        .on_conflict_do_nothing()
    )
    if added.rowcount:
        events.append(session, study_id, "trial_started", {"ordinal": ordinal, "attempt": attempt})


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
        _unfinished(study_id, ordinal, attempt).values(
            outcome=result.outcome, value=result.value, result=stored, log=log, progress=None, finished_at=func.now()
        )
    )
    if not ended.rowcount:
        return False
    data = {"ordinal": ordinal, "attempt": attempt, "outcome": result.outcome, "value": result.value}
    events.append(session, study_id, "trial_finished", data)
    if result.outcome in _VERDICTS:
        leases.forget_failures(session, lease.group_id, lease.epoch)
    return True


def mark_told(session: Session, lease: Lease, study_id: str, ordinal: int, attempt: int) -> None:
    """Optuna knows how the attempt ended. Raises ``LeaseLost``."""
    leases.guard(session, lease)
    session.execute(_row(study_id, ordinal, attempt).values(told=True))


def history(session: Session, study_id: str) -> list[Record]:
    """Every attempt of the study by ordinal and attempt, without curves and logs."""
    parts = result_parts(violation=Float, fault=JSONB)
    query = (
        select(
            Trial.ordinal,
            Trial.attempt,
            Trial.optuna_id,
            Trial.hyperparameters,
            Trial.told,
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
        Record(row.ordinal, row.attempt, row.optuna_id, row.hyperparameters, row.told, _ending(row), row.earlier)
        for row in session.execute(query)
    ]


def orphans(session: Session, study_id: str, optuna_ids: Iterable[int]) -> list[int]:
    """Those of Optuna's trials that no attempt belongs to: asked by a runner that died before it wrote the attempt."""
    known = select(Trial.optuna_id).where(Trial.study_id == study_id)
    return sorted(set(optuna_ids) - set(session.scalars(known)))


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
