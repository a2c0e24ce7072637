"""Hears of events as they are committed: one connection of the whole process, whatever the number of streams."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

import psycopg
from sqlalchemy import make_url

from service.store.database import CONNECT_TIMEOUT
from service.store.events import CHANNEL

log = logging.getLogger(__name__)

_PAUSE = 2.0
"""Seconds between two attempts to connect."""


class Listener:
    """Wakes whoever waits for a study. While its database is away nobody is woken: waiters look by themselves."""

    def __init__(self, database_url: str):
        self._url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task | None = None
        self.hearing = False
        """Whether a wait may be long: what is committed now is heard."""
        self.closed = False
        """Streams are to end: the process stops."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        self.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def close(self) -> None:
        """Streams end at once; from the event loop's thread."""
        self.closed = True
        self._ring(*self._bells)

    @contextlib.contextmanager
    def bell(self, study_id: str) -> Iterator[asyncio.Event]:
        """Set at each event of the study. Kept for as long as somebody is there to hear it."""
        bell = asyncio.Event()
        self._bells[study_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[study_id].discard(bell)
            if not self._bells[study_id]:
                del self._bells[study_id]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="mudman-listen"
                )
                async with connection:
                    await connection.execute(f"listen {CHANNEL}")
                    self.hearing = True
                    self._ring(*self._bells)  # what was said before is not heard
                    async for said in connection.notifies():
                        self._ring(said.payload)
            except (psycopg.Error, OSError) as error:
                log.debug("nothing is heard of the database: %s", error)
            finally:
                self.hearing = False
            await asyncio.sleep(_PAUSE)

    def _ring(self, *study_ids: str) -> None:
        for study_id in study_ids:
            for bell in self._bells.get(study_id, ()):
                bell.set()
