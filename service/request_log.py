"""One line and one measurement per request, and an id that its other lines and its answer carry."""

import logging
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mudman import logs
from service.metrics import NO_ROUTE

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
_ACCEPTED = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
"""What a client may call its request; anything else could forge lines of the log."""
_QUIET = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by machines: logged as DEBUG where they succeed."""

Observe = Callable[[str, str, int, float, BaseException | None], None]
"""Method, route's template, status, seconds until the answer's end, and what was raised."""


class RequestLog:
    """ASGI middleware. ``request.state.request_id`` is the request's id."""

    def __init__(self, app: ASGIApp, observe: Observe):
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ACCEPTED.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        logs.about(request_id=request_id)  # the server runs each request in a context of its own
        started, status, raised, streams_since = time.perf_counter(), 500, None, None

        async def answer(message: Message) -> None:
            nonlocal status, streams_since
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if headers.get("content-type", "").startswith("text/event-stream"):
                    streams_since = time.perf_counter()  # how long somebody listens then says nothing of the server
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except BaseException as error:
            raised = error
            raise
        finally:
            self._note(scope, status, (streams_since or time.perf_counter()) - started, raised)

    def _note(self, scope: Scope, status: int, seconds: float, raised: BaseException | None) -> None:
        method, path = scope["method"], quote(scope["path"])  # one line, whatever stands in it
        route = getattr(scope.get("route"), "path_format", NO_ROUTE)
        self._observe(method, route, status, seconds, raised)
        level = logging.DEBUG if path in _QUIET and status < 400 else logging.INFO
        fields = {"method": method, "path": path, "status": status, "duration_ms": round(seconds * 1000, 1)}
        fields |= scope.get("path_params", {})  # study_id, ordinal, comparison_id: whatever the route names
        log.log(level, "%s %s %d %.1f ms", method, path, status, seconds * 1000, extra=fields)
