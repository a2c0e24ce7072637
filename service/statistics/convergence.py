"""Whether a search has come to rest: its last valid trials against as many before them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.statistics.bootstrap import Sample, interval
from service.statistics.differences import LEVEL


@dataclass(frozen=True)
class Convergence:
    verdict: Literal["converged", "improving", "worsening", "too few trials"]
    valid: int
    """Valid trials; the verdict needs twice ``last``."""
    last: int
    change: float | None
    """Mean of the last ones minus mean of as many before them."""
    low: float | None
    """Lower end of the change's interval."""
    high: float | None
    p_value: float | None
    """Of the change."""
    best_after: int | None
    """Valid trials after which the best was known."""
    best_gain: float | None
    """By how much the best of the last ones is better than the best of all before; 0 where it is not."""
    spread: float | None
    """Standard deviation of the last ones (ddof 1), which a gain must exceed to say that the search still improves."""


def convergence(values: Sequence[float], last: int, *, minimise: bool = False, seed: int = 0) -> Convergence:
    """``values``: the objective of every valid trial, by ordinal.

    ``improving``: the change is for the better at the level of 5 %, or the best has gained more than the spread;
    ``worsening``: the change is for the worse; ``converged``: neither. ``too few trials``: below twice ``last``, and
    then nothing is claimed.
    """
    valid = len(values)
    best_after = values.index((min if minimise else max)(values)) + 1 if valid else None
    if valid < 2 * last or last < 2:
        return Convergence("too few trials", valid, last, *[None] * 4, best_after, None, None)
    sign = -1 if minimise else 1
    recent, before = tuple(values[-last:]), tuple(values[-2 * last : -last])
    change = statistics.fmean(recent) - statistics.fmean(before)
    found = interval(Sample(recent, "last", seed), Sample(before, "before", seed))
    best_gain = max(max(sign * v for v in recent) - max(sign * v for v in values[:-last]), 0.0)
    spread = statistics.stdev(recent)
    moved = found is not None and found.p_value < LEVEL
    if moved and sign * change < 0:
        verdict = "worsening"
    elif moved or best_gain > spread:
        verdict = "improving"
    else:
        verdict = "converged"
    ends = (found.low, found.high, found.p_value) if found else (None, None, None)
    return Convergence(verdict, valid, last, change, *ends, best_after, best_gain, spread)
