"""Attempts at trials: started, in progress, ended. Every write is refused once the lease is lost.

An attempt's start and its end are one transaction each, over our tables and Optuna's (see ``writes``).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.results import Curve, Fault, Outcome, TrialResult
from service.store import optuna_rows, writes
from service.store.leases import Lease, LeaseLost, NoPlace
from service.store.tables import Study, Trial

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


@dataclass(frozen=True)
class Recorded:
    """What the store knows once an end is stored."""

    enqueued: bool
    """Whether an enqueued trial of the study waits."""


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

    ``distributions``: as for ``optuna_rows.starting``. ``opened``: of a first attempt, the ordinals that were open when
    it was sampled. ``enqueued``: sequence of the enqueued trial that it takes.
    """
    notes = {"ordinal": ordinal, "attempt": attempt}
    key = {"study_id": study_id, "group_id": lease.group_id, "epoch": lease.epoch, **notes}
    connection = session.connection()
    place = connection.execute(writes.PLACE, key).one_or_none()
    if place is None:
        raise LeaseLost(lease.group_id, lease.epoch)
    if place.max_live is not None and place.others >= place.max_live:
        raise NoPlace(lease.group_id, place.max_live)
    if place.at_optuna is None:
        raise LookupError(
            f"Optuna's study {study_id!r} is gone: somebody has deleted it. The next runner makes it anew."
        )
    event = {"kind": "trial_started", "event": json.dumps(notes)}
    if opened is not None:
        notes["open_when_asked"] = list(opened)
    given = {"hyperparameters": json.dumps(hyperparameters), "enqueued": enqueued}
    given |= optuna_rows.starting(hyperparameters, distributions, notes)
    return connection.execute(writes.START, key | event | given).one_or_none() is not None


def progress(session: Session, lease: Lease, reports: Iterable[Report]) -> None:
    """How far running attempts are, one report of each; with its first word one has started. Raises ``LeaseLost``."""
    held = {"group_id": lease.group_id, "epoch": lease.epoch}
    said = json.dumps([vars(report) for report in reports])
    if session.connection().execute(writes.PROGRESS, held | {"reports": said}).one_or_none() is None:
        raise LeaseLost(lease.group_id, lease.epoch)


def record(
    session: Session, lease: Lease, study_id: str, ordinal: int, attempt: int, result: TrialResult
) -> Recorded | None:
    """The attempt has ended. None if its end is known already: the first one stands. Raises ``LeaseLost``."""
    result = _storable(result)
    ending = Ending.of(result)
    data = {"ordinal": ordinal, "attempt": attempt, "outcome": result.outcome, "value": result.value}
    if result.fault:
        data["reason"] = ending.reason
    given = {
        "group_id": lease.group_id,
        "epoch": lease.epoch,
        "study_id": study_id,
        "ordinal": ordinal,
        "attempt": attempt,
        "outcome": str(result.outcome),
        "value": result.value,
        "result": result.model_dump_json(exclude={"log"}),
        "log": result.log,
        "verdict": result.outcome in _VERDICTS,
        "timed": result.seconds > 0,
        "kind": "trial_finished",
        "event": json.dumps(data),
    } | optuna_rows.ending(
        ending.outcome,
        value=ending.value,
        violation=ending.violation,
        reason=ending.reason,
        steps=_steps(result.relearning),
    )
    known = session.connection().execute(writes.END, given).one_or_none()
    if known is None:
        raise LeaseLost(lease.group_id, lease.epoch)
    return None if known.last_event is None else Recorded(known.enqueued)


def _steps(relearning: Curve) -> dict[int, float]:
    """What Optuna calls intermediate values: forget loss by passes of the attack, where it is a number."""
    points = zip(relearning.passes, relearning.forget_loss, strict=True)
    return {passes: loss for passes, loss in points if loss is not None}


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


def unfinished(session: Session, study_id: str) -> list[tuple[int, int, bool]]:
    """Ordinal and attempt of those without an end, and whether a worker had begun."""
    query = select(Trial.ordinal, Trial.attempt, Trial.worker.is_not(None)).where(
        Trial.study_id == study_id, Trial.outcome.is_(None)
    )
    return list(session.execute(query.order_by(Trial.ordinal, Trial.attempt)).tuples())


def _ending(row) -> Ending | None:
    if row.outcome is None:
        return None
    steps = {} if row.judged is None else {row.judged_at: row.judged}
    return Ending(Outcome(row.outcome), row.value, row.violation, row.reason, steps)


def _reason(outcome: Outcome, fault: Fault | None) -> str:
    return f"{outcome.value}: {fault.type}: {fault.message}"[:1000] if fault else outcome.value


def _bounded(log: str) -> str:
    if len(log) <= LOG_HEAD + LOG_TAIL:
        return log
    left_out = len(log) - LOG_HEAD - LOG_TAIL
    return f"{log[:LOG_HEAD]}\n[… {left_out} characters left out …]\n{log[-LOG_TAIL:]}"


def _storable(result: TrialResult) -> TrialResult:
    """As Postgres takes it: no NUL and no half surrogate pairs, which a log or a traceback may hold."""
    fault = result.fault and Fault(**{name: _clean(words) for name, words in result.fault})
    return result.model_copy(update={"fault": fault, "log": _bounded(_clean(result.log))})


def _clean(words: str) -> str:
    return words.replace("\x00", "").encode("utf-8", "replace").decode()
