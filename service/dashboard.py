"""Optuna's own dashboard under ``/dashboard``, for reading: behind the same door as all else, over a connection on
which Postgres itself refuses to write.

Its page asks for ``/api`` and ``/static`` at the root, so these are its own here; nothing of ours is there.
"""

import threading
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.store.database import CONNECT_TIMEOUT, driver_url
from service.store.tables import OPTUNA_SCHEMA

_READ_ONLY = problems.Kind(405, "method-not-allowed", "Method Not Allowed")
PLACES = ("/dashboard", "/api", "/static", "/csv")
POLICY = (
    # Its styles are made by its script, and one of its plots makes functions from text.
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Dashboard:
    """Optuna is loaded when somebody first looks: the API itself starts without it."""

    def __init__(self, database_url: str):
        self._url = database_url
        self._lock = threading.Lock()
        self._made: tuple[ASGIApp, Any] | None = None

    def mount(self, app: Starlette) -> None:
        for place in PLACES:
            app.mount(place, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            detail = "Optuna's dashboard is for reading here. Possible: GET, HEAD."
            refusal = problems.respond(Request(scope), _READ_ONLY, detail, headers={"Allow": "GET, HEAD"})
            await refusal(scope, receive, send)
            return
        app = await run_in_threadpool(self._app)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await app({**scope, "root_path": ""}, receive, answer)

    def _app(self) -> ASGIApp:
        with self._lock:
            if self._made is None:
                self._made = readonly(self._url)
            return self._made[0]

    def close(self) -> None:
        if self._made is not None:
            self._made[1].engine.dispose()


def readonly(database_url: str) -> tuple[ASGIApp, Any]:
    """The dashboard, and Optuna's storage behind it. Connects to nothing yet."""
    from a2wsgi import WSGIMiddleware
    from optuna.storages import RDBStorage
    from optuna_dashboard import wsgi

    settings = {
        "search_path": OPTUNA_SCHEMA,
        "TimeZone": "UTC",
        "default_transaction_read_only": "on",
        "statement_timeout": "10000",
    }
    storage = RDBStorage(
        driver_url(database_url, settings).render_as_string(hide_password=False),
        engine_kwargs={
            "pool_size": 2,
            "max_overflow": 0,
            "pool_pre_ping": True,
            "connect_args": {"application_name": "mudman-dashboard", "connect_timeout": CONNECT_TIMEOUT},
        },
        skip_compatibility_check=True,
        skip_table_creation=True,
    )
    return WSGIMiddleware(wsgi(storage), workers=4), storage
