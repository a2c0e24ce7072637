"""Writes audit events of requests: each change, and each refusal for want of a good token, scope or ownership."""

import logging
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.access.rules import SAFE
from service.store import audit
from service.store.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)


async def note(request: Request, status: int) -> None:
    """Before the answer is given: no change is acknowledged that is not on record, unless the log says so."""
    caller, problem = request.state.caller, getattr(request.state, "problem", None)
    if problem == "not-authenticated":
        status = 401  # also where a browser is shown the way to the form
    if not (_is_refusal(status, problem) or _is_change(request, status)):
        return
    event = {
        "token_id": caller.token_id,
        "owner": caller.owner,
        "address": caller.address,
        "method": request.method,
        "path": quote(request.scope["path"]),
        "status": status,
        "detail": problem,
        "request_id": request.state.request_id,
    }
    try:
        await run_in_threadpool(_write, request.app.state.database, event)
    except DatabaseUnavailable as error:
        log.warning("an audit event is lost: %s", error, extra={"audit": event})


def _is_refusal(status: int, problem: str | None) -> bool:
    """Not what anybody at all could fill the table with: failures of an address are limited, these are not."""
    return status in (401, 403) and problem not in ("wrong-host", "not-local")


def _is_change(request: Request, status: int) -> bool:
    """By somebody who is known, or who need not be. What was only tried is none; whether it was, the route says."""
    tried = getattr(request.state, "tried", False)
    known = request.state.caller.scope is not None
    return known and status != 429 and not tried and request.method not in SAFE


def _write(database: Database, event: dict) -> None:
    with database.begin() as session:
        audit.record(session, **event)
