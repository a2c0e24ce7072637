"""Every point of a grid once, in an order shuffled by the seed: a grid that is stopped early is a fair sample."""

import heapq
import math
from random import Random

from mudman.specs import StudySpec
from service.store.attempts import Ending
from service.store.sampling.base import Sampler


class Grid(Sampler):
    """Points are numbered by their mixed-radix index. One that nothing counts of yet, because its trial failed, comes
    again behind all fresh ones, those that failed least first."""

    def __init__(self, spec: StudySpec):
        super().__init__(spec)
        self._levels = spec.sampler.levels(self.space)
        self._index_of = {name: {v: i for i, v in enumerate(levels)} for name, levels in self._levels.items()}
        self._size = math.prod(len(levels) for levels in self._levels.values())
        self._order = Shuffled(self._size, self.seed("grid"))
        self._next = 0
        """Position before which no fresh point is left."""
        self._point: dict[int, int] = {}
        """Ordinal to point, of ordinals that hold one: open, or counted."""
        self._taken: set[int] = set()
        self._failures: dict[int, int] = {}
        self._failed: list[tuple[int, int]] = []
        """Heap of failures and point. Entries that are out of date are passed over."""

    def suggest(self, ordinal: int) -> dict[str, float]:
        return self._values(self._fresh(ordinal))

    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        point = self._index(hyperparameters)
        if point is not None and point not in self._taken:
            self._point[ordinal] = point
            self._taken.add(point)

    def told(self, ordinal: int, ending: Ending) -> None:
        point = self._point.get(ordinal)
        if point is None:
            return
        if ending.outcome.counts:
            self._taken.add(point)
        elif point in self._taken:
            self._taken.discard(point)
            self._failures[point] = self._failures.get(point, 0) + 1
            heapq.heappush(self._failed, (self._failures[point], point))

    def _fresh(self, ordinal: int) -> int:
        while self._next < self._size:
            point = self._order[self._next]
            if point not in self._taken and point not in self._failures:
                return point
            self._next += 1
        while self._failed and (
            self._failed[0][1] in self._taken or self._failed[0][0] != self._failures[self._failed[0][1]]
        ):
            heapq.heappop(self._failed)
        return self._failed[0][1] if self._failed else self._order[ordinal % self._size]

    def _values(self, point: int) -> dict[str, float]:
        values = {}
        for name, levels in self._levels.items():
            point, index = divmod(point, len(levels))
            values[name] = levels[index]
        return values

    def _index(self, hyperparameters: dict[str, float]) -> int | None:
        """Of a point of the grid; None for any other."""
        point, factor = 0, 1
        for name, levels in self._levels.items():
            index = self._index_of[name].get(hyperparameters[name])
            if index is None:
                return None
            point, factor = point + index * factor, factor * len(levels)
        return point


class Shuffled:
    """A permutation of ``range(size)``, whatever its size: Fisher-Yates from the front, drawn only as far as asked."""

    def __init__(self, size: int, seed: int):
        self._size, self._random = size, Random(seed)
        self._drawn: list[int] = []
        self._moved: dict[int, int] = {}

    def __getitem__(self, position: int) -> int:
        while len(self._drawn) <= position:
            front = len(self._drawn)
            other = self._random.randrange(front, self._size)
            self._drawn.append(self._moved.get(other, other))
            self._moved[other] = self._moved.pop(front, front)
        return self._drawn[position]
