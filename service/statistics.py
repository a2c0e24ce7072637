"""Statistics of a study, and of what two of them differ by: pure arithmetic over the values of its valid trials."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Over the last valid trials, in the unit of the objective."""

    n: int
    """Trials that the mean is taken over: as many as were asked for, or fewer where there are not so many."""
    last: int
    """Trials asked for."""
    mean: float
    standard_error: float | None
    """Standard deviation (ddof 1) over the root of n; unknown for a single trial."""
    standard_error_published: float
    """By the published convention: standard deviation with ddof 0 over the root of the number asked for."""
    median: float
    best: float
    """Of all valid trials."""


@dataclass(frozen=True)
class Difference:
    value: float
    standard_error: float | None
    """Of the difference of two independent means; a baseline is taken as exact. Unknown where one of them is."""


def summarise(values: Sequence[float], last: int, *, minimise: bool = False) -> Summary | None:
    """``values``: the objective of every valid trial, by ordinal. None where there is none."""
    if not values:
        return None
    window = list(values[-last:])
    n = len(window)
    return Summary(
        n=n,
        last=last,
        mean=statistics.fmean(window),
        standard_error=statistics.stdev(window) / math.sqrt(n) if n > 1 else None,
        standard_error_published=statistics.pstdev(window) / math.sqrt(last),
        median=statistics.median(window),
        best=min(values) if minimise else max(values),
    )


def difference(one: Summary, other: Summary) -> Difference:
    """``one`` minus ``other``."""
    errors = (one.standard_error, other.standard_error)
    return Difference(one.mean - other.mean, None if None in errors else math.hypot(*errors))


def gain(one: Summary, baseline: float) -> Difference:
    """``one`` minus what the untouched model comes to."""
    return Difference(one.mean - baseline, one.standard_error)


RESOLVED = 2.0
"""Standard errors by which two means must differ to be told apart."""


def verdict(difference: Difference, *, minimise: bool = False) -> str:
    """``better``, ``worse``, or ``unresolved`` where the difference is within two standard errors, or has none."""
    if difference.standard_error is None or abs(difference.value) <= RESOLVED * difference.standard_error:
        return "unresolved"
    return "better" if (difference.value > 0) != minimise else "worse"


def per_cent_of(part: float, whole: float) -> float | None:
    """None where the whole is nothing."""
    return 100 * part / whole if whole else None
