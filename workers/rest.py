"""What a runner does while nothing of its group is to run: studies may be resumed, extended or retried soon."""

import math
from collections.abc import Callable

SETTLES = 2.0
"""Seconds until the dispatchers have decided on the share of a group that has work again."""


class Rest:
    """It ends after ``patience`` seconds. Until then the group keeps its places, their models loaded, but only while no
    other group has work."""

    def __init__(self, patience: float, clock: Callable[[], float]):
        self._patience, self._clock = patience, clock
        self._worked, self._woke = clock(), -math.inf
        self._rested = self._others_work = False
        self.idle = False

    def look(self, busy: bool, others_work: bool) -> None:
        """``others_work``: whether another group waits for places or has some."""
        if busy and self.idle:
            self._woke = self._clock()
        if busy:
            self._worked = self._clock()
        self.idle, self._others_work = not busy, others_work
        self._rested = self._rested or self.idle

    @property
    def over(self) -> bool:
        return self.idle and self._clock() - self._worked >= self._patience

    def places(self, share: int | None) -> int | None:
        """That may stay; ``None``: all. A group without work has no share, whatever that of one in the plan is."""
        if self.idle or self._clock() - self._woke < SETTLES:
            return 0 if self._others_work else None
        return share

    def trials(self, share: int | None) -> int | None:
        """That may run, of the group's share. After a rest one that is not known is none."""
        return 0 if self.idle or (share is None and self._rested) else share
