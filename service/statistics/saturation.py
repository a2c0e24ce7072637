"""Whether the best lies where a search range ends: then the range may have been too narrow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mudman.specs import Range

EDGE = 0.1
"""Part of a range at each of its ends, as published; of a log range by the logarithm."""
ENOUGH = 0.3
"""Part of the best trials that must lie at the same end as the best: of a range that does not matter, one in five
would have its best at an end by chance."""
Side = Literal["low", "high"]


@dataclass(frozen=True)
class Place:
    """Where in its range the best trials have a hyper-parameter."""

    best: float
    """Value of the best trial."""
    position: float
    """Of that value: 0 at the lower end of the range, 1 at the upper one."""
    at_edge: Side | None
    """End of the range in whose tenth it lies: the published check."""
    top: int
    """Best trials that are looked at, ten at most."""
    top_low: int
    """Of these, those in the lowest tenth."""
    top_high: int
    saturated: Side | None
    """End at which the range is too narrow: the best lies there, and with it three in ten of the best trials."""


def position(value: float, searched: Range) -> float:
    low, high = searched.low, searched.high
    if searched.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value / 2 - low / 2) / (high / 2 - low / 2)  # half of each: ends may be as far apart as numbers go


def place(name: str, searched: Range, top: Sequence[Mapping[str, float]]) -> Place:
    """``top``: hyper-parameters of the best valid trials, the best first; at least one."""
    sides = [_side(position(trial[name], searched)) for trial in top]
    edge = sides[0]
    saturated = edge if edge and sides.count(edge) >= ENOUGH * len(sides) else None
    best = top[0][name]
    counts = (len(sides), sides.count("low"), sides.count("high"))
    return Place(best, position(best, searched), edge, *counts, saturated)


def _side(share: float) -> Side | None:
    return "low" if share <= EDGE else "high" if share >= 1 - EDGE else None


def widened(searched: Range, side: Side) -> Range:
    """Half its width longer on that side, a log range by the logarithm; ends of an int range are whole numbers.

    Raises ``ValueError`` where that is no number any more.
    """
    low, high = searched.low, searched.high
    if searched.log:
        further = math.sqrt(high) / math.sqrt(low)
        low, high = (low / further, high) if side == "low" else (low, high * further)
    else:
        further = high / 2 - low / 2
        low, high = (low - further, high) if side == "low" else (low, high + further)
    if searched.int and math.isfinite(low) and math.isfinite(high):
        low, high = float(math.floor(low + 1e-9)), float(math.ceil(high - 1e-9))
    return Range(low=low, high=high, log=searched.log, int=searched.int)
