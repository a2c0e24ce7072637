"""Writes audit events of requests: each change, and each refusal for want of a good token, scope or ownership."""

import logging
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.access.rules import SAFE
from service.store import audit
from service.store.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)

_REFUSED = (401, 403)
_YES = ("true", "1", "yes", "on", "t", "y")


async def note(request: Request, status: int) -> None:
    """Before the answer is given: no change is acknowledged that is not on record, unless the log says so."""
    tried = request.query_params.get("dry_run", "").lower() in _YES  # changes nothing, at every key that is typed
    if status not in _REFUSED and (request.method in SAFE or tried):
        return
    caller = request.state.caller
    event = {
        "token_id": caller.token_id,
        "owner": caller.owner,
        "address": caller.address,
        "method": request.method,
        "path": quote(request.url.path),
        "status": status,
        "detail": getattr(request.state, "problem", None),
        "request_id": request.state.request_id,
    }
    try:
        await run_in_threadpool(_write, request.app.state.database, event)
    except DatabaseUnavailable as error:
        log.warning("an audit event is lost: %s", error, extra={"audit": event})


def _write(database: Database, event: dict) -> None:
    with database.begin() as session:
        audit.record(session, **event)
