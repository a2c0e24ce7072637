"""What running attempts have said of themselves."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import Trial


def reports(session: Session, study_id: str, limit: int = 100) -> list[tuple[int, int, dict[str, Any]]]:
    """Ordinal, attempt and latest progress, by ordinal; of those that have said anything."""
    query = select(Trial.ordinal, Trial.attempt, Trial.progress).where(
        Trial.study_id == study_id, Trial.outcome.is_(None), Trial.progress.is_not(None)
    )
    return [row._tuple() for row in session.execute(query.order_by(Trial.ordinal, Trial.attempt).limit(limit))]
