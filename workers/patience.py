"""When a dispatcher may judge leases: not before their holders could renew them."""

import math


class Patience:
    """Of one dispatcher. Leases are by the database's clock: while it was away, or after it was set, one that has
    expired says nothing of its holder. Times of this process are monotonic seconds."""

    def __init__(self, renewal: float, expiry: float, now: float):
        """``renewal``, ``expiry``: of leases, seconds. ``now``: when the dispatcher began, perhaps after an outage."""
        self._expiry = expiry
        self._jump = (expiry - renewal) / 2
        """Seconds by which the clock may be set without that a lease expires before it is renewed."""
        self._until = now + 2 * renewal
        self._ahead = (-math.inf, math.inf)
        """Between which the database's clock was ahead of this process's."""

    def away(self, now: float) -> None:
        """The database was away at this moment."""
        self._until = now + self._expiry

    def look(self, database: float, asked: float, answered: float) -> None:
        """``database``: what its clock said (seconds of any epoch) at a moment between these two. However slow the
        answer is, it is no clock that was set."""
        least, most = database - answered, database - asked
        before_least, before_most = self._ahead
        if least > before_most + self._jump or most < before_least - self._jump:
            self.away(answered)
        self._ahead = least, most

    def over(self, now: float) -> bool:
        return now > self._until
