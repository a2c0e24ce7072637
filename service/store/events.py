"""What happened to a study: numbered without gaps, told to whoever listens."""

import json
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store.tables import SCHEMA, Event

CHANNEL = "mudman_event"
"""NOTIFY channel; its payload is the study's id, never the event."""


class UnknownStudy(MudmanError):
    """No study has this id."""

    def __init__(self, study_id: str):
        super().__init__(f"There is no study {study_id!r}. List the studies with GET /studies.")
        self.study_id = study_id

    def __reduce__(self):
        return UnknownStudy, (self.study_id,)


def appended(source: str = "") -> str:
    """Part of a ``with`` that writes an event as ``append`` does, if ``source``, a part before it, has a row; then
    ``told`` has one, with the event's number."""
    return f"""
    numbered as (
        update {SCHEMA}.study set last_event = last_event + 1 {source and f"from {source}"}
        where id = :study_id returning id, last_event
    ), written as (
        insert into {SCHEMA}.event (study_id, sequence, kind, data)
        select id, last_event, :kind, cast(:event as jsonb) from numbered
    ), told as materialized (
        select last_event, pg_notify('{CHANNEL}', id) from numbered
    )
    """


_APPEND = text(f"with {appended()} select last_event from told")


def append(session: Session, study_id: str, kind: str, data: dict[str, Any] | None = None) -> int:
    """Write the study's next event and return its number.

    The number is taken under the study's row lock and given back by a rollback, so that a reader who has seen number n
    has seen all before it. Listeners hear of it at commit. Raises ``UnknownStudy``.
    """
    values = {"study_id": study_id, "kind": kind, "event": json.dumps(data or {})}
    number = session.execute(_APPEND, values).scalar_one_or_none()
    if number is None:
        raise UnknownStudy(study_id)
    return number


def after(session: Session, study_id: str, sequence: int, limit: int = 1000) -> list[Event]:
    """Events of the study that follow number ``sequence``, in order."""
    query = select(Event).where(Event.study_id == study_id, Event.sequence > sequence)
    return list(session.scalars(query.order_by(Event.sequence).limit(limit)))
