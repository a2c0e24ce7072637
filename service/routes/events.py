"""``/studies/{id}/events``: what happened to a study."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field

from service import examples, live
from service.declared_problems import problems
from service.event_views import EventPage, event_page
from service.refusals import NotAcceptable
from service.routes import Store
from service.store import events, studies

router = APIRouter(prefix="/studies/{study_id}", tags=["studies"])

_LISTED = {"application/json", "application/*", "*/*"}
STREAM = "text/event-stream"
EVENT_STREAM = """id: 7
data: {"sequence":7,"at":"2026-11-27T12:00:00Z","kind":"trial_started","data":{"ordinal":2,"attempt":1}}

event: curves
data: {"ordinal":2,"attempt":1,"phase":"relearn","passes":10,"of":40,"unlearning":{},"relearning":{}}

: ping
"""


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    after: int = Field(0, ge=0, lt=2**31)
    """Only events that follow this one, by ``sequence``."""
    limit: int = Field(100, ge=1, le=1000)
    """Items of a page."""


@router.get(
    "/events",
    response_model=EventPage,
    summary="What happened to a study",
    responses={
        200: {
            "content": {
                "application/json": {"example": examples.EVENT_PAGE},
                "text/event-stream": {"schema": {"type": "string"}, "example": EVENT_STREAM},
            }
        },
        **problems(404, 406, 422, 503),
    },
)
def list_events(
    study_id: str,
    store: Store,
    place: Annotated[Place, Query()],
    request: Request,
    accept: Annotated[str, Header(description="`application/json`, `text/event-stream`, or anything.")] = "*/*",
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, lt=2**31, description="Of a stream that goes on: the last message's `id`."),
    ] = None,
):
    """Its events in order, the newest last, a page at a time: ask again with the last `sequence` as `after` for what
    has happened since. Old events are dropped; the list begins with the oldest that is left.

    As `text/event-stream` the same as server-sent events, and whatever happens from then on. Messages without a name
    are events, with their `sequence` as `id`, and the stream goes on after `Last-Event-ID`, or else `after`. Beside
    them `standing` says state and progress when they change, `curves` how far a running trial is, with its curves up to
    there, and `deleted` that the study is gone. A comment every few seconds says that the stream is alive.
    """
    wanted = {one.partition(";")[0].strip().lower() for one in accept.split(",")}
    if not (_LISTED | {STREAM}) & wanted:
        raise NotAcceptable(f"There is no {accept!r} of events. Send Accept: application/json, or {STREAM}.")
    with store.begin() as session:
        studies.get(session, study_id)
        if _LISTED & wanted:
            return event_page(events.after(session, study_id, place.after, place.limit + 1), place.limit)
    after = place.after if last_event_id is None else last_event_id
    messages = live.stream(store, request.app.state.listener, study_id, after, request.state.caller.token_id)
    # Proxies are not to keep messages until there are more of them.
    return EventSourceResponse(messages, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
