"""What two studies differ by, and whether that can be told from chance."""

import math
from dataclasses import dataclass
from typing import Literal

from service.statistics.means import Summary

LEVEL = 0.05
"""Chance of calling any of a table's differences real that is none."""
Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True)
class Difference:
    value: float
    standard_error: float | None
    """Of the difference of two independent means; a baseline is taken as exact. Unknown where one of them is."""


def difference(one: Summary, other: Summary) -> Difference:
    """``one`` minus ``other``."""
    errors = (one.standard_error, other.standard_error)
    return Difference(one.mean - other.mean, None if None in errors else math.hypot(*errors))


def gain(one: Summary, baseline: float) -> Difference:
    """``one`` minus what the untouched model comes to."""
    return Difference(one.mean - baseline, one.standard_error)


def verdict(value: float, p_value: float | None, *, minimise: bool = False) -> Verdict:
    """``p_value``: of the difference, corrected for how many there are; None where too little is known for one."""
    if p_value is None or p_value >= LEVEL or value == 0:
        return "not distinguishable"
    return "better" if (value > 0) != minimise else "worse"


def per_cent_of(part: float, whole: float) -> float | None:
    """None where the whole is nothing."""
    return 100 * part / whole if whole else None
