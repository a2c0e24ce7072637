"""Studies of a group that were queued after its runner had begun, brought to running beside those that run."""

import functools
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from service.store.database import Database
from service.store.events import UnknownStudy
from service.store.leases import Lease
from workers.desk import Desk
from workers.outage import outlast
from workers.study import StudyInHand

Prepare = Callable[[list[StudyInHand]], list[StudyInHand]]
"""Brings studies to running, and answers those that are."""


class Newcomers:
    """In a thread: to prepare a study may take as long as a trial. One batch at a time; of the ledger's thread."""

    def __init__(self, database: Database, lease: Lease, desk: Desk, prepare: Prepare):
        self._database, self._lease, self._desk, self._prepare = database, lease, desk, prepare
        self._thread: threading.Thread | None = None
        self._ready: list[StudyInHand] = []
        self._failure: Exception | None = None
        self.takes_place = False
        """Whether one is being prepared, for which one of the group's places is needed."""

    @property
    def busy(self) -> bool:
        return self._thread is not None

    def begin(self, study_ids: Collection[str]) -> None:
        """Only while not ``busy``. None of them may have an attempt that is open."""
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(study_ids,), name="newcomers", daemon=True)
        self._thread.start()

    def ready(self) -> list[StudyInHand]:
        """Those that run now, once, when the batch is through. Raises what broke it."""
        if self._thread is None or self._thread.is_alive():
            return []
        self._thread = None
        if self._failure is not None:
            raise self._failure
        ready, self._ready = self._ready, []
        return ready

    def end(self, timeout: float) -> None:
        """After the desk was halted."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, study_ids: Collection[str]) -> None:
        try:
            self._ready = self._brought(study_ids)
        except Exception as error:  # noqa: BLE001 - handed to the ledger's thread, which raises it
            self._failure = error

    def _brought(self, study_ids: Collection[str]) -> list[StudyInHand]:
        hands = []
        for study_id in sorted(study_ids):
            with suppress(UnknownStudy):  # deleted meanwhile
                in_hand = functools.partial(StudyInHand, self._database, self._lease, study_id)
                hands.append(outlast(self._desk, in_hand))
        self.takes_place = not all(hand.prepared for hand in hands)
        try:
            return self._prepare(hands)
        finally:
            self.takes_place = False
