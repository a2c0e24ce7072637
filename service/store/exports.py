"""All finished attempts of a study with what is needed to compute every statistic again, in one narrow query."""

import datetime
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from service.store import standing
from service.store.tables import Trial


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
