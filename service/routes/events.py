"""``/studies/{id}/events``: what happened to a study."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from service import examples
from service.declared_problems import problems
from service.event_views import EventPage, event_page
from service.problems import NotAcceptable
from service.routes import Store
from service.store import events, studies

router = APIRouter(prefix="/studies/{study_id}", tags=["studies"])

_ANSWERED = {"application/json", "application/*", "*/*"}


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
        200: {"content": {"application/json": {"example": examples.EVENT_PAGE}}},
        **problems(404, 406, 422, 503),
    },
)
def list_events(
    study_id: str,
    store: Store,
    place: Annotated[Place, Query()],
    accept: Annotated[str, Header(description="`application/json`, or anything.")] = "*/*",
):
    """Its events in order, the newest last, a page at a time: ask again with the last `sequence` as `after` for what
    has happened since. Old events are dropped; the list begins with the oldest that is left.

    This is the list, `application/json`. The stream will have the same address, as `text/event-stream`; a client that
    takes nothing else is refused until then (406).
    """
    if not _ANSWERED & {wanted.partition(";")[0].strip().lower() for wanted in accept.split(",")}:
        raise NotAcceptable(f"There is no {accept!r} of events. Send Accept: application/json.")
    with store.begin() as session:
        studies.get(session, study_id)
        return event_page(events.after(session, study_id, place.after, place.limit + 1), place.limit)
