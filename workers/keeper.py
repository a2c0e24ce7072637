"""The thread that renews a runner's lease, and stops the runner when it can no longer be sure of it."""

import logging
import os
import threading
import time

from service.store import leases
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Lease
from workers.desk import Desk

log = logging.getLogger(__name__)

LEASE_LOST = 75
"""Exit status (EX_TEMPFAIL) of a runner that lost its lease or could not renew it in time."""
LAST_WORDS = 60.0
"""Seconds that a runner without a lease has to stop its trials and deliver what waits; then it ends by force."""


class LeaseKeeper(threading.Thread):
    """``max_live`` is the group's share, as of the last renewal."""

    def __init__(self, database: Database, lease: Lease, desk: Desk, renewal: float, expiry: float):
        super().__init__(name="lease", daemon=True)
        self._database, self._lease, self._desk = database, lease, desk
        self._renewal, self._expiry = renewal, expiry
        self._given_back = threading.Event()
        self.lost = threading.Event()
        """The lease is another's, or nobody could be asked for too long: the runner has to end."""
        self.max_live: int | None = None

    def run(self) -> None:
        sure = time.monotonic()
        while not self._given_back.is_set():
            asked = time.monotonic()
            try:
                with self._database.begin() as session:
                    renewal = leases.renew(session, self._lease.group_id, self._lease.epoch, self._expiry)
            except DatabaseUnavailable as error:
                if time.monotonic() - sure > self._expiry:
                    self._fence(f"the lease could not be renewed for {self._expiry:g} s: {error}")
            else:
                if not renewal.alive:
                    if not self._given_back.is_set():
                        self._fence("another runner has the lease")
                    return
                sure, self.max_live = asked, renewal.max_live
            self._given_back.wait(self._renewal)

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
        timer = threading.Timer(LAST_WORDS, os._exit, (LEASE_LOST,))
        timer.daemon = True
        timer.start()
