"""CMA-ES (arXiv 1604.00772), folded over what was told: no state but the trials themselves.

Generation g is the ordinals from gλ to (g+1)λ − 1, sampled from the distribution that the generations before it give.
One of these is told to the optimiser as soon as half its ordinals have ended with something to learn, best first
(``Sampler.rank``); an ordinal that is open, or that nothing is learned from, stands at the mean behind all others and
moves nothing. What an open trial brings later changes what is sampled from then on. So a suggestion is a function of
seed, ordinal and the trials told by then, which are those that ``open_when_asked`` leaves over.
"""

import copy
import math

import numpy as np
from cmaes import CMA

from mudman.specs import Range, StudySpec
from service.store.attempts import Ending
from service.store.sampling.base import Sampler


class CmaEs(Sampler):
    """In the unit cube of the ranges, log ranges by their logarithm. A converged search begins anew elsewhere."""

    def __init__(self, spec: StudySpec):
        super().__init__(spec)
        dimensions = len(self.space)
        self.population = spec.sampler.population or 4 + math.floor(3 * math.log(max(dimensions, 1)))
        self._points: list[np.ndarray] = []
        self._open: set[int] = set()
        self._ranks: dict[int, tuple[float, ...]] = {}
        self._begin()

    def suggest(self, ordinal: int) -> dict[str, float]:
        if not self.space:
            return {}
        optimizer = self._before(ordinal // self.population)
        optimizer.reseed_rng(self.seed(ordinal))
        point = optimizer.ask()
        return {name: _value(range_, float(at)) for (name, range_), at in zip(self.space.items(), point, strict=True)}

    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        self._points.append(np.array([_place(range_, hyperparameters[name]) for name, range_ in self.space.items()]))
        self._open.add(ordinal)

    def told(self, ordinal: int, ending: Ending) -> None:
        self._open.discard(ordinal)
        rank = self.rank(ending)
        if rank is not None:
            self._ranks[ordinal] = rank
        if ordinal // self.population < self._folded:  # a retried trial of a generation that seemed over
            self._begin()

    def _begin(self) -> None:
        self._folded = 0
        self._optimizer = self._fresh(np.full(len(self.space), 0.5)) if self.space else None

    def _fresh(self, mean: np.ndarray) -> CMA:
        bounds = np.tile([0.0, 1.0], (len(mean), 1))
        return CMA(mean, self.spec.sampler.sigma, bounds=bounds, population_size=self.population)

    def _before(self, generation: int) -> CMA:
        """The optimiser before a generation; what has been told of closed generations is kept."""
        while self._folded < generation and self._open.isdisjoint(self._ordinals(self._folded)):
            self._optimizer = self._fold(self._optimizer, self._folded)
            self._folded += 1
        optimizer = self._optimizer
        if self._folded < generation:
            optimizer = copy.deepcopy(optimizer)
            for open_generation in range(self._folded, generation):
                optimizer = self._fold(optimizer, open_generation)
        return optimizer

    def _fold(self, optimizer: CMA, generation: int) -> CMA:
        known = sorted((o for o in self._ordinals(generation) if o in self._ranks), key=self._ranks.__getitem__)
        if 2 * len(known) < self.population:
            return optimizer
        points = [self._points[ordinal] for ordinal in known]
        points += [optimizer.mean.copy()] * (self.population - len(known))
        optimizer.tell([(point, float(place)) for place, point in enumerate(points)])
        if optimizer.should_stop():
            random = np.random.default_rng(self.seed("restart", generation))
            return self._fresh(random.uniform(size=len(self.space)))
        return optimizer

    def _ordinals(self, generation: int) -> range:
        return range(generation * self.population, (generation + 1) * self.population)


def _ends(range_: Range) -> tuple[float, float]:
    """Of the range on its axis; whole numbers are as wide at the ends as within."""
    margin = 0.5 if range_.int else 0.0
    low, high = range_.low - margin, range_.high + margin
    return (math.log(low), math.log(high)) if range_.log else (low, high)


def _value(range_: Range, at: float) -> float:
    low, high = _ends(range_)
    value = low + at * (high - low)
    return range_.nearest(math.exp(value) if range_.log else value)


def _place(range_: Range, value: float) -> float:
    low, high = _ends(range_)
    return ((math.log(value) if range_.log else value) - low) / (high - low)
