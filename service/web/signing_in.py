"""Signing in from a browser: a token that is typed once becomes a cookie."""

import datetime
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from service.access import cookie
from service.access.recognition import recognise
from service.access.refusals import NotAuthenticated
from service.bodies import read
from service.routes import Configuration, Store
from service.web.page import Page
from service.web.rendering import render

router = APIRouter(route_class=Page, include_in_schema=False)

LONGEST_FORM = 4096
"""Bytes: a token, and an address to go to."""
Next = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/ui/sign-in")
def form(settings: Configuration, wanted: Next = "/"):
    return _page(settings, wanted)


@router.post("/ui/sign-in")
async def sign_in(request: Request, store: Store, settings: Configuration):
    fields = parse_qs((await read(request, LONGEST_FORM)).decode("utf-8", "replace"))
    value, wanted = (fields.get(name, [""])[0].strip() for name in ("token", "next"))
    try:
        known = await run_in_threadpool(recognise, store, value)
    except NotAuthenticated as error:
        request.app.state.limits.failed(request.state.caller)
        request.state.problem = "not-authenticated"
        return _page(settings, wanted, error.reason, 401)
    request.state.caller = request.state.caller.by(known)  # for the audit event
    answer = RedirectResponse(_within(wanted), 303)
    left = known.expires_at - datetime.datetime.now(datetime.UTC)
    cookie.write(answer, value, seconds=max(int(left.total_seconds()), 0), secure=request.url.scheme == "https")
    return answer


@router.post("/ui/sign-out")
async def sign_out(request: Request):
    answer = RedirectResponse("/ui/sign-in", 303)
    cookie.clear(answer, secure=request.url.scheme == "https")
    return answer


def _page(settings, wanted: str, refused: str | None = None, status: int = 200) -> Response:
    values = {"wanted": _within(wanted), "refused": refused, "asks": settings.access == "tokens"}
    return render("sign-in.html", status, **values)


def _within(address: str) -> str:
    """An address of this service, whatever was asked for: browsers read ``//`` and ``/\\`` as another host's."""
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if inside else "/"
