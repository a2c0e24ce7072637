"""Optuna's own dashboard under ``/dashboard``, for reading: behind the same door as all else, over a connection on
which Postgres itself refuses to write.

Its page asks for ``/api`` and ``/static`` at the root, so these are its own here; nothing of ours is there. It reads
every trial of a study that is looked at into this process, so studies of any size are not for it.
"""

import re
import threading
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.store.database import CONNECT_TIMEOUT, Database, driver_url
from service.store.tables import OPTUNA_SCHEMA

PLACES = ("/dashboard", "/api", "/static", "/csv")
POLICY = (
    # Its styles are made by its script, and one of its plots makes functions from text.
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OF_A_STUDY = re.compile(r"/(?:api/studies|csv)/([^/]+)")
_NUMBER = re.compile("[1-9][0-9]{0,9}")
_LARGEST = 2**31 - 1
"""Number of a study that Postgres takes."""
_UNKNOWN = problems.Kind(404, "not-found", "Not Found")
_READ_ONLY = problems.Kind(405, "method-not-allowed", "Method Not Allowed")
_TOO_LARGE = problems.Kind(409, "too-large", "The study is too large for Optuna's dashboard")


@dataclass
class _Made:
    app: ASGIApp
    storage: Any
    cache: Any
    """Trials that it keeps in memory, for ever if it were left to itself."""
    study: int | None = None
    """Looked at last."""


class Dashboard:
    """Optuna is loaded when somebody first looks: the API itself starts without it."""

    def __init__(self, database: Database, most: int):
        """``most``: trials of a study that is shown."""
        self._database, self._most = database, most
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def mount(self, app: Starlette) -> None:
        for place in PLACES:
            app.mount(place, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            detail = "Optuna's dashboard is for reading here. Possible: GET, HEAD."
            refusal = problems.respond(Request(scope), _READ_ONLY, detail, headers={"Allow": "GET, HEAD"})
            await refusal(scope, receive, send)
            return
        of_a_study = _OF_A_STUDY.match(scope["path"])
        number = _number(of_a_study[1]) if of_a_study else None
        if of_a_study and number is None:  # in whatever other way bottle reads it, it was not counted
            detail = f"There is no study {of_a_study[1]!r} at Optuna. Its studies: /api/studies."
            await problems.respond(Request(scope), _UNKNOWN, detail)(scope, receive, send)
            return
        made = await run_in_threadpool(self._look, number)
        if made is None:
            detail = f"It has more than {self._most} trials (MUDMAN_DASHBOARD_TRIALS). See its own page and figures."
            await problems.respond(Request(scope), _TOO_LARGE, detail, reason=detail)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await made.app({**scope, "root_path": ""}, receive, answer)

    def _look(self, study: int | None) -> _Made | None:
        """None: the study is too large. Trials of one study at a time are kept."""
        with self._lock:
            made = self._made = self._made or readonly(self._database.url)
            if study not in (None, made.study):
                made.study = study
                made.cache.clear()
        return None if study is not None and self._is_too_large(study) else made

    def _is_too_large(self, study: int) -> bool:
        query = text("select count(*) from (select from optuna.trials where study_id = :study limit :limit) as found")
        with self._database.begin() as session:
            return session.scalar(query, {"study": study, "limit": self._most + 1}) > self._most

    def close(self) -> None:
        if self._made is not None:
            self._made.storage.engine.dispose()


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= _LARGEST else None


def readonly(database_url: str) -> _Made:
    """Connects to nothing yet."""
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
    dashboard = wsgi(storage)
    return _Made(WSGIMiddleware(dashboard, workers=4), storage, dashboard._inmemory_cache)
