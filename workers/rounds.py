"""Whose turn it is among the studies of a group."""

import random
from collections.abc import Collection


class Rounds:
    """In each round every study has one turn, in an order that is drawn anew for every two rounds; the second of them
    is the first one backwards.

    In a fixed order, with as many devices as studies, each study would sit on one device for ever, and what differs
    between devices, or drifts on one of them, would pass for a difference between studies. Backwards and forwards, on
    two devices that take turns, every study runs on both equally often.
    """

    def __init__(self, seed: str):
        """The same seed draws the same orders."""
        self._seed = seed
        self._round = 0
        self._due: list[str] = []

    def next(self, everyone: Collection[str], able: Collection[str]) -> str:
        """One of ``able``, which must not be empty. Who is not able now keeps its turn to the end of the round."""
        if not any(name in able for name in self._due):
            self._due = self._order(everyone)
            self._round += 1
        name = next(name for name in self._due if name in able)
        self._due.remove(name)
        return name

    def _order(self, everyone: Collection[str]) -> list[str]:
        order = sorted(everyone)
        random.Random(f"{self._seed}/{self._round // 2}").shuffle(order)
        return order[::-1] if self._round % 2 else order
