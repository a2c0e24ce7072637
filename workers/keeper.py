"""The thread that renews a runner's lease, and stops the runner when it has lost it.

A database that is away is no reason to stop: nobody can take the lease over without it either, every write is fenced by
the epoch, and what finishes meanwhile waits to be delivered.
"""

import logging
import os
import threading
import time

from service.store import leases
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Lease
from workers.desk import Desk
from workers.exits import FAILED, LEASE_LOST

log = logging.getLogger(__name__)

LAST_WORDS = 60.0
"""Seconds that a runner without a lease has to stop its trials and deliver what waits; then it ends by force."""


LOOK = 0.5
"""Seconds between two looks at the share."""


class LeaseKeeper(threading.Thread):
    """``max_live`` is the group's share."""

    def __init__(self, database: Database, lease: Lease, desk: Desk, renewal: float, expiry: float):
        super().__init__(name="lease", daemon=True)
        self._database, self._lease, self._desk = database, lease, desk
        self._renewal, self._expiry = renewal, expiry
        self._given_back = threading.Event()
        self.lost = threading.Event()
        """The lease is another's, or is not renewed any more: the runner has to end."""
        self.failure: Exception | None = None
        """What broke the keeper itself."""
        self.max_live: int | None = None

    def run(self) -> None:
        try:
            while self._renewed():
                self._wait()
        except Exception as error:
            log.exception("the lease is not renewed any more")
            self.failure = error
            self._fence("the lease will be lost")

    def _renewed(self) -> bool:
        """One renewal, or an attempt at one; False once there is nothing to renew any more."""
        if self._given_back.is_set():
            return False
        try:
            with self._database.begin() as session:
                renewal = leases.renew(session, self._lease.group_id, self._lease.epoch, self._expiry)
        except DatabaseUnavailable as error:
            log.warning("the lease could not be renewed: %s", error)
            return True
        if renewal.alive:
            self.max_live = renewal.max_live
        elif not self._given_back.is_set():
            self._fence("another runner has the lease")
        return renewal.alive

    def _wait(self) -> None:
        """Until the next renewal is due; the share may change before."""
        due = time.monotonic() + self._renewal
        while (left := due - time.monotonic()) > 0 and not self._given_back.wait(min(left, LOOK)):
            if left > LOOK:
                self._look()

    def _look(self) -> None:
        try:
            with self._database.begin() as session:
                self.max_live = leases.max_live(session, self._lease)
        except DatabaseUnavailable as error:
            log.warning("the share could not be read: %s", error)

    def give_back(self, *, retry_after: float | None = None, failed: bool = False) -> None:
        """Release the lease and renew no more. May raise ``DatabaseUnavailable``: it expires by itself then."""
        self._given_back.set()
        with self._database.begin() as session:
            leases.release(session, self._lease.group_id, self._lease.epoch, retry_after=retry_after, failed=failed)

    def _fence(self, reason: str) -> None:
        if self.lost.is_set():
            return
        log.error("%s: trials are stopped", reason)
        self.lost.set()
        self._desk.halt()
        # Whatever the main thread hangs in (a Ray that is gone, a trial that does not obey), it ends.
        timer = threading.Timer(LAST_WORDS, os._exit, (FAILED if self.failure else LEASE_LOST,))
        timer.daemon = True
        timer.start()
