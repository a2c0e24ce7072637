"""A study's stream of server-sent events: what happened, how far it is, and the curves of trials while they run.

A stream holds what it sends next and nothing more: a reader that is slow is asked no faster, and finds the rest in the
database.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.event_views import Curves, EventView, Standing
from service.listening import Listener
from service.store import events, running, studies, tokens
from service.store.database import Database, DatabaseUnavailable
from service.stored_views import view_of

PAGE = 200
"""Events that are read at once."""
TURN = 1.0
"""Seconds between two looks at a study whose trials run: as often as runners say how far they are."""
HEARTBEAT = 5.0
"""Seconds without a word after which a comment says that somebody is there; and between two looks at a study where
nothing runs and whose events are heard of."""
RETRY_MS = 1000
"""After which a browser connects again."""


class _TokenEnded(Exception):
    pass


@dataclass
class _Place:
    """How far a stream is."""

    sequence: int
    standing: Standing | None = None
    curves: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    """Of each running attempt, phase and passes that were sent last."""


async def stream(
    database: Database, listener: Listener, study_id: str, after: int, token_id: str | None = None
) -> AsyncIterator[bytes]:
    """Ends when the study is deleted, when the process stops, and when the token with which it was asked for is good no
    more: that is looked at as often as the study is."""
    place, spoke = _Place(after), time.monotonic()
    yield format_sse_event(retry=RETRY_MS, comment="mudman")
    with listener.bell(study_id) as bell:
        while not listener.closed:
            bell.clear()
            try:
                messages, at_once = await run_in_threadpool(_look, database, study_id, place, token_id)
            except DatabaseUnavailable:
                messages, at_once = [], False  # until it is back
            except _TokenEnded:
                return
            except events.UnknownStudy:
                yield format_sse_event(event="deleted", data_str="{}")
                return
            for message in messages:
                yield message
            now = time.monotonic()
            if messages:
                spoke = now
            elif now - spoke >= HEARTBEAT:
                yield KEEPALIVE_COMMENT
                spoke = now
            if not at_once:
                at_rest = listener.hearing and place.standing is not None and not place.standing.progress.running
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), HEARTBEAT if at_rest else TURN)


def _look(database: Database, study_id: str, place: _Place, token_id: str | None) -> tuple[list[bytes], bool]:
    """Messages since the last look, and whether there are more."""
    with database.begin() as session:
        if token_id is not None and not tokens.is_good(session, token_id):
            raise _TokenEnded
        study = studies.get(session, study_id)
        found = events.after(session, study_id, place.sequence, PAGE)
        messages = [_event(one) for one in found]
        if found:
            place.sequence = found[-1].sequence
        if len(found) == PAGE:
            return messages, True
        view = view_of(session, study)
        standing = Standing(state=view.state, progress=view.progress, problem=view.problem)
        messages += _curves(session, study_id, place)
    if standing != place.standing:
        place.standing = standing
        messages.append(format_sse_event(event="standing", data_str=standing.model_dump_json()))
    return messages, False


def _event(one: Any) -> bytes:
    view = EventView(sequence=one.sequence, at=one.at, kind=one.kind, data=one.data)
    return format_sse_event(id=str(one.sequence), data_str=view.model_dump_json())


def _curves(session: Session, study_id: str, place: _Place) -> list[bytes]:
    sent, messages = {}, []
    for ordinal, attempt, progress in running.reports(session, study_id):
        reached = (progress.get("phase"), progress.get("passes"))
        sent[ordinal, attempt] = reached
        if place.curves.get((ordinal, attempt)) != reached:
            curves = Curves(ordinal=ordinal, attempt=attempt, **progress)
            messages.append(format_sse_event(event="curves", data_str=curves.model_dump_json()))
    place.curves = sent
    return messages
