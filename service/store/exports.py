"""All finished attempts of a study with what is needed to compute every statistic again, in one narrow query."""

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from service.store import repeating, standing
from service.store.tables import Study, Trial


class Finished(NamedTuple):
    """As ``statistics.compute.Attempt``, and how it ended."""

    ordinal: int
    attempt: int
    outcome: str
    value: float | None
    seconds: float
    passes_booked: int
    passes_made: int
    passes_skipped: int
    hyperparameters: dict[str, float]
    violation: float | None
    overrun: float | None
    stopped_at_pass: int | None
    judged: float | None
    reason: str
    started_at: datetime.datetime
    finished_at: datetime.datetime | None


class Exported(NamedTuple):
    """A study, and its latest confirmation, each with its finished attempts."""

    study: Study
    attempts: list[Finished]
    confirming: Study | None
    runs: list[Finished]


class Whole(NamedTuple):
    """A finished attempt with everything that is kept of it, but for its log."""

    finished: Finished
    worker: dict[str, Any] | None
    result: dict[str, Any] | None
    """``mudman.results.TrialResult``; null where the attempt was lost before it said anything."""


_MORE = (
    Trial.hyperparameters,
    Trial.violation,
    Trial.overrun,
    Trial.stopped_at_pass,
    Trial.judged,
    Trial.reason,
    Trial.started_at,
    Trial.finished_at,
)


def finished(session: Session, study_id: str) -> list[Finished]:
    """By ordinal and attempt; of any number of trials, without curves and logs."""
    query = standing.FINISHED.add_columns(*_MORE).where(Trial.study_id == study_id, Trial.outcome.is_not(None))
    rows: Any = session.execute(query.execution_options(yield_per=standing.PART))
    return sorted((Finished(*columns) for _, *columns in rows), key=lambda one: (one.ordinal, one.attempt))


def of_study(session: Session, study: Study) -> Exported:
    child = repeating.newest(session, study.id, keeping=False)
    return Exported(study, finished(session, study.id), child, finished(session, child.id) if child else [])


def whole(session: Session, study_id: str) -> Iterator[Whole]:
    """By ordinal and attempt, a few at a time: with a trace of every loop a single one may be megabytes."""
    query = standing.FINISHED.add_columns(*_MORE, Trial.worker, Trial.result)
    query = query.where(Trial.study_id == study_id, Trial.outcome.is_not(None)).order_by(Trial.ordinal, Trial.attempt)
    for _, *columns, worker, result in session.execute(query.execution_options(yield_per=_FEW)):
        yield Whole(Finished(*columns), worker, result)


_FEW = 4
"""Whoever writes them down takes half a second for one of 5 MB, and the server would take a session that is silent for
``database.FROZEN`` for frozen."""
