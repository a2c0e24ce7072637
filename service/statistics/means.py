"""What a study has found: the mean over its last valid trials, and the best of all."""

import heapq
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from service.statistics.autocorrelation import effective_size

TOP = 10


@dataclass(frozen=True)
class Summary:
    """Over the last valid trials, in the unit of the objective."""

    n: int
    """Trials that the mean is taken over: as many as were asked for, or fewer where there are not so many."""
    last: int
    """Trials asked for."""
    mean: float
    standard_error: float | None
    """Standard deviation (ddof 1) over the root of ``effective_n``; unknown for a single trial."""
    effective_n: float
    """Independent trials that these are worth, ``n`` at most."""
    standard_error_published: float
    """By the published convention: standard deviation with ddof 0 over the root of the number asked for."""
    median: float
    best: float
    """Of all valid trials."""
    top10_mean: float
    """Of the ten best of all valid trials, or of all where there are fewer."""


def summarise(values: Sequence[float], last: int, *, minimise: bool = False) -> Summary | None:
    """``values``: the objective of every valid trial, by ordinal. None where there is none."""
    if not values:
        return None
    window = list(values[-last:])
    effective = effective_size(window)
    return Summary(
        n=len(window),
        last=last,
        mean=statistics.fmean(window),
        standard_error=statistics.stdev(window) / math.sqrt(effective) if len(window) > 1 else None,
        effective_n=effective,
        standard_error_published=statistics.pstdev(window) / math.sqrt(last),
        median=statistics.median(window),
        best=min(values) if minimise else max(values),
        top10_mean=statistics.fmean((heapq.nsmallest if minimise else heapq.nlargest)(TOP, values)),
    )
