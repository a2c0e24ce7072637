"""How much one caller may ask of one API process: requests in a minute, requests and streams at once."""

import contextlib
import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator

from service.access.caller import Caller
from service.access.refusals import TooManyRequests
from service.store.settings import Settings

_MANY = 10_000
"""Callers that are remembered before those that have been quiet are forgotten."""


class Rate:
    """A steady rate with bursts: the generic cell rate algorithm (ITU-T I.371), one number for each caller.

    Not a library's: those that count in memory start a thread to forget, at nearly every request.
    """

    def __init__(self, per_minute: int, *, burst: float, clock: Callable[[], float] = time.monotonic):
        """``burst``: as many may come at once as do in so many seconds. 0 a minute: no limit."""
        self._pause = 60 / per_minute if per_minute else 0.0
        self._ahead = max(burst - self._pause, 0.0)
        self._clock, self._due = clock, {}

    def wait(self, key: str) -> float:
        """Seconds until this caller is let in; 0: it is, and that counts."""
        now = self._clock()
        if len(self._due) > _MANY:
            self._due = {one: due for one, due in self._due.items() if due > now}
        due = max(self._due.get(key, now), now)
        if self._pause and due - now > self._ahead:
            return due - now - self._ahead
        self._due[key] = due + self._pause
        return 0.0


class Limits:
    """Of one process. All of it happens on the event loop: nothing is locked."""

    def __init__(self, settings: Settings):
        self._rate = Rate(settings.requests_per_minute, burst=10)
        self._failures = Rate(settings.failures_per_minute, burst=60)
        self._most = {"requests": settings.max_requests, "streams": settings.max_streams}
        self._open = Counter()

    def count(self, caller: Caller) -> None:
        """Raises ``TooManyRequests``."""
        if (seconds := self._rate.wait(key(caller))) > 0:
            raise TooManyRequests("More requests in a minute than the service takes from one caller.", seconds)

    def failed(self, caller: Caller) -> None:
        """Raises ``TooManyRequests`` where the address has failed too often."""
        if (seconds := self._failures.wait(key(caller))) > 0:
            raise TooManyRequests("This address has sent too many tokens that are not good.", seconds)

    @contextlib.contextmanager
    def place(self, caller: Caller, kind: str) -> Iterator[None]:
        """``kind``: requests or streams. Raises ``TooManyRequests``."""
        place = (kind, key(caller))
        if self._open[place] >= self._most[kind]:
            raise TooManyRequests(f"{self._most[kind]} {kind} of this caller are open already.", 1.0)
        self._open[place] += 1
        try:
            yield
        finally:
            self._open[place] -= 1
            if not self._open[place]:
                del self._open[place]


def key(caller: Caller) -> str:
    """Its token, or its address: of IPv6 the network that one customer is given."""
    if caller.token_id is not None:
        return caller.token_id
    try:
        address = ipaddress.ip_address(caller.address)
    except ValueError:
        return caller.address
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))
