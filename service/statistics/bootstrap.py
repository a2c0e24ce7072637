"""Intervals and p-values for means of series whose neighbours resemble each other: a block bootstrap."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.statistics.autocorrelation import correlation_time

RESAMPLES = 10_000
CONFIDENCE = 0.95
_AT_ONCE = 2**20
"""Numbers held at a time while resampling."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    p_value: float
    """Of the difference being nothing but chance."""


@dataclass(frozen=True)
class Sample:
    """A series, and how its mean varies when its blocks are drawn again."""

    values: tuple[float, ...]
    name: str
    """Part of the seed: samples that are drawn apart are independent."""
    seed: int = 0

    @property
    def block(self) -> int:
        """Consecutive values that are drawn together: the cube root of n, or the correlation time where that is longer;
        at most a quarter of n, so that there are blocks to draw."""
        n = len(self.values)
        longest = max(n // 4, 1)
        return min(max(math.floor(n ** (1 / 3) + 1e-9), math.ceil(correlation_time(self.values))), longest)

    @property
    def drawn(self) -> int:
        """Blocks that make a sample."""
        return math.ceil(len(self.values) / self.block)

    @cached_property
    def _blocks(self) -> Any:
        """Means of the n blocks of the series closed to a circle: every value is in as many as every other."""
        import numpy as np

        closed = np.concatenate([self.values, self.values[: self.block - 1]])
        return np.convolve(closed, np.full(self.block, 1 / self.block), mode="valid")

    @cached_property
    def error(self) -> float:
        """Standard error of the mean, by the spread of blocks (ddof 1 over those drawn). Needs two values."""
        correction = self.drawn / (self.drawn - 1)
        return math.sqrt(float(self._blocks.var()) * correction * self.block / len(self.values))

    @cached_property
    def draws(self) -> tuple[Any, Any]:
        """Means and their standard errors over ``RESAMPLES`` samples of blocks drawn with replacement.

        Uniform numbers come from the Mersenne twister of numpy's ``RandomState``, whose stream never changes (NEP 19),
        seeded with the bytes of ``seed/name``; number u takes the block that starts at ⌊u·n⌋.
        """
        import numpy as np

        twister = np.random.RandomState(list(f"{self.seed}/{self.name}".encode()))
        n, means, errors = len(self.values), [], []
        part = max(_AT_ONCE // self.drawn, 1)
        for start in range(0, RESAMPLES, part):
            uniform = twister.random_sample((min(part, RESAMPLES - start), self.drawn))
            picked = self._blocks[(uniform * n).astype(np.int64)]
            means.append(picked.mean(axis=1))
            errors.append(picked.std(axis=1, ddof=1) / math.sqrt(self.drawn))
        return np.concatenate(means), np.concatenate(errors)


def interval(one: Sample, other: Sample | float) -> Interval | None:
    """Of mean(one) − mean(other); a plain number is taken as exact. ``CONFIDENCE``, symmetric and studentised.

    t = d / e with e² the sum of both squared errors. Over the resamples t* = (d* − d) / e*, with the error of each
    resample; p is the share of |t*| ≥ |t|, and q their ``CONFIDENCE`` quantile: d ± q·e (Hall 1988; Götze and Künsch
    1996). Few values give many resamples without spread, whose t* is infinite: so they resolve little, as they should.
    None where they resolve nothing (q is infinite), or nothing varies.
    """
    samples = [sample for sample in (one, other) if isinstance(sample, Sample)]
    if any(len(sample.values) < 2 for sample in samples):
        return None
    import numpy as np

    error = math.hypot(*(sample.error for sample in samples))
    scale = max(abs(value) for sample in samples for value in sample.values)
    if error <= 1e-12 * scale:  # what rounding leaves of equal values
        return None
    against = other.values if isinstance(other, Sample) else (other,)
    value = math.fsum(one.values) / len(one.values) - math.fsum(against) / len(against)
    means, errors = one.draws
    if isinstance(other, Sample):
        means, errors = means - other.draws[0], np.hypot(errors, other.draws[1])
    else:
        means = means - other
    spread = errors > 1e-12 * scale
    drawn = np.full(RESAMPLES, np.inf)
    drawn[spread] = np.abs(means[spread] - value) / errors[spread]
    p_value = (1 + int((drawn >= abs(value) / error).sum())) / (RESAMPLES + 1)
    quantile = float(np.sort(drawn)[math.ceil(CONFIDENCE * (RESAMPLES + 1)) - 1])
    if not math.isfinite(quantile):
        return None
    return Interval(value - quantile * error, value + quantile * error, p_value)
