"""What ``GET /studies/{id}/events`` answers, and how it is made from rows."""

import datetime
from typing import Any

from service.store.states import State
from service.store.tables import Event
from service.view import View
from service.views import ProgressView


class EventView(View):
    sequence: int
    """From 1, without gaps."""
    at: datetime.datetime
    kind: str
    """What happened: ``created``, ``running``, ``trial_finished``, …"""
    data: dict[str, Any]
    """More about it, by kind."""


class EventPage(View):
    items: list[EventView]
    """In order, the newest last."""
    next: int | None
    """``after`` of the next page; null on the last."""


class Standing(View):
    """Message ``standing`` of the stream: how far the study is now."""

    state: State
    progress: ProgressView
    problem: dict[str, Any] | None


class Curves(View):
    """Message ``curves`` of the stream: how far a running trial is, and its curves up to there."""

    ordinal: int
    attempt: int
    phase: str | None = None
    passes: int = 0
    of: int | None = None
    unlearning: dict[str, list[float | None]] = {}
    """One array per quantity: `passes`, `forget_loss`, `retain_loss` (nats per token)."""
    relearning: dict[str, list[float | None]] = {}


def event_page(found: list[Event], limit: int) -> EventPage:
    """``found``: one more than ``limit`` where there is a next page."""
    shown = [EventView(sequence=one.sequence, at=one.at, kind=one.kind, data=one.data) for one in found[:limit]]
    return EventPage(items=shown, next=shown[-1].sequence if len(found) > limit else None)
