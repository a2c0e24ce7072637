"""Who did what, and how it ended: written after each change and each refusal, read by admins."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store.access_tables import AuditEvent

_LONGEST = 500


def record(session: Session, **event: Any) -> None:
    """``event``: columns. Text that came from outside is cut and cleaned here."""
    session.execute(insert(AuditEvent).values({name: _clean(value) for name, value in event.items()}))


def page(
    session: Session, wanted: Mapping[str, Any], limit: int, before: int | None
) -> tuple[list[AuditEvent], int | None]:
    """Newest first, with the ``before`` of the next page. ``wanted``: values by column."""
    query = select(AuditEvent)
    for name, value in wanted.items():
        query = query.where(getattr(AuditEvent, name) == value)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    rows = list(session.scalars(query.order_by(AuditEvent.id.desc()).limit(limit + 1)))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def _clean(value: Any) -> Any:
    """What Postgres takes as text, and one line shows."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "replace").decode()[:_LONGEST].replace("\0", "\ufffd")
