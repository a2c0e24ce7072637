"""Whatever belongs to somebody is read by all and changed by its owner and admins only."""

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.access.caller import Caller
from service.access.rules import SAFE
from service.store import comparisons, studies

_OWNED = {"study_id": ("Study", studies.get), "comparison_id": ("Comparison", comparisons.get)}


async def check(request: Request) -> None:
    """A dependency of every route: by the names of the parts of its path, so that one that is added has it too."""
    caller = request.state.caller
    if request.method in SAFE or caller.owner is None:
        return
    for part, value in request.path_params.items():
        if part in _OWNED:
            await run_in_threadpool(_look, request.app.state.database, caller, part, value)


def _look(database, caller: Caller, part: str, value: str) -> None:
    kind, get = _OWNED[part]
    with database.begin() as session:
        owner = _owner(session, get, value)
    caller.check_may_change(f"{kind} {value}", owner)


def _owner(session: Session, get, value: str) -> str:
    return get(session, value).owner
