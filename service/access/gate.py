"""Every request passes here: which host it names, who asks, how often, and whether they may."""

import contextlib
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mudman import logs
from mudman.faults import MudmanError
from service import exposition, problems
from service.access import auditing, cookie, exposure, rules
from service.access.caller import Caller, current
from service.access.limits import Limits
from service.access.recognition import recognise
from service.access.refusals import CrossSite, InsufficientScope, NotAuthenticated
from service.metrics import condition
from service.store import scopes
from service.store.database import DatabaseUnavailable
from service.store.settings import Settings


class Gate:
    """ASGI middleware. ``request.state.caller`` is who asks."""

    def __init__(self, app: ASGIApp, settings: Settings, limits: Limits):
        self._app, self._settings, self._limits = app, settings, limits
        self._asks = settings.access == "tokens"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # there is none here
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.caller = Caller(request.client.host if request.client else "unknown")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await auditing.note(request, message["status"])
                if self._asks:  # what one caller may see is kept for no other
                    MutableHeaders(scope=message).setdefault("Cache-Control", "private, no-cache")
            await send(message)

        with contextlib.ExitStack() as held:
            try:
                await self._admit(request)
                if self._asks:
                    held.enter_context(self._limits.place(request.state.caller, _kind(request.headers)))
            except MudmanError as error:
                await _refusal(request, error)(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)

    async def _admit(self, request: Request) -> None:
        """Finds who asks. Raises why they are turned away."""
        anybody = request.state.caller
        path = request.scope["path"]  # not that of its URL, which is put together from what the client says of the host
        if not (self._asks and path in rules.PROBED):
            exposure.check_host(self._settings, request.headers.get("host"), request.scope.get("server"))
        if not self._asks:
            _is(request, Caller(anybody.address, scopes.Scope.ADMIN))
            return
        needed = rules.needed(request.method, path)
        if needed is None:
            self._limits.count(anybody)
            _is(request, anybody)
            return
        value, by_cookie = _given(request.headers)
        try:
            known = await run_in_threadpool(recognise, request.app.state.database, value)
        except NotAuthenticated:
            self._limits.failed(anybody)
            raise
        _is(request, anybody.by(known))
        self._limits.count(request.state.caller)
        if not known.scope.covers(needed):
            raise InsufficientScope(known.scope, needed)
        if by_cookie and request.method not in rules.SAFE and not _says_from_where(request.headers):
            raise CrossSite("The browser does not say which page asked for this change. Remedy: take a newer one.")


def _is(request: Request, caller: Caller) -> None:
    request.state.caller = caller
    current.set(caller)
    if caller.token_id is not None:
        logs.about(request_id=request.state.request_id, token_id=caller.token_id, owner=caller.owner)


def _given(headers: Headers) -> tuple[str | None, bool]:
    """The token, and whether a browser sent it by itself."""
    if (authorization := headers.get("authorization")) is not None:
        scheme, _, value = authorization.partition(" ")
        return (value.strip() if scheme.lower() == "bearer" else None), False
    return cookie.read(headers), True


def _says_from_where(headers: Headers) -> bool:
    """``service.web.browser_rules`` judges what it says."""
    return "sec-fetch-site" in headers or "origin" in headers


def _kind(headers: Headers) -> str:
    return "streams" if "text/event-stream" in headers.get("accept", "") else "requests"


def _refusal(request: Request, error: MudmanError) -> Response:
    if isinstance(error, NotAuthenticated) and request.method == "GET" and _is_a_persons(request.headers):
        request.state.problem = "not-authenticated"
        query = request.scope["query_string"].decode("latin-1")
        wanted = request.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/ui/sign-in?next={quote(wanted, safe='')}", 303)
    if isinstance(error, DatabaseUnavailable) and (request.method, request.scope["path"]) == ("GET", rules.METRICS):
        return exposition.of_families(condition(error))  # who asks is not known: nothing else is told
    return problems.document(request, error)


def _is_a_persons(headers: Headers) -> bool:
    """A browser's, of somebody who is to sign in; whoever sends a token by hand is told that it is not good."""
    return "text/html" in headers.get("accept", "") and "authorization" not in headers
