"""Parts that the statistics of a study and the table of a comparison have in common."""

from mudman.specs import StudySpec
from service.statistics import bootstrap
from service.statistics.bootstrap import Interval
from service.statistics.compute import Tally
from service.statistics.differences import Difference, per_cent_of
from service.statistics.means import Summary
from service.view import View


class SummaryView(View):
    """Over the last valid trials, in the unit of the objective."""

    n: int
    """Trials that it is taken over; fewer than `last` where there are not so many."""
    last: int
    """Trials asked for (`statistics.last`)."""
    mean: float
    standard_error: float | None
    """Standard deviation with ddof 1 over the root of `effective_n`; null for one trial."""
    effective_n: float
    """Independent trials that these are worth: consecutive trials of a search resemble each other."""
    standard_error_published: float
    """As published: standard deviation with ddof 0 over the root of `last`."""
    median: float
    best: float
    """Of all valid trials."""
    top10_mean: float
    """Of the ten best of all valid trials, or of all where there are fewer."""


class DifferenceView(View):
    value: float
    standard_error: float | None


class ComparedView(DifferenceView):
    """A difference of two means, and whether it can be told from chance."""

    per_cent: float | None
    """Of the absolute mean of what it is compared with."""
    low: float | None
    """Lower end of the interval of 95 %, by block bootstrap; null where there are too few trials for one."""
    high: float | None
    per_cent_low: float | None
    per_cent_high: float | None
    p_value: float | None
    """Two-sided, of this difference alone."""
    p_adjusted: float | None
    """Corrected for the number of differences (Holm)."""


class Spent(View):
    """By all attempts at trials, whatever became of them; without preparation."""

    gpu_seconds: float
    cpu_seconds: float
    passes_booked: int
    """As the published procedure books them."""
    passes_made: int
    passes_skipped: int
    """Booked passes that the pruner left out."""


class BootstrapView(View):
    """How intervals and p-values were made (docs/statistics.md)."""

    seed: int
    resamples: int
    confidence: float

    @classmethod
    def of(cls, seed: int) -> "BootstrapView":
        return cls(seed=seed, resamples=bootstrap.RESAMPLES, confidence=bootstrap.CONFIDENCE)


def summary_view(summary: Summary | None) -> SummaryView | None:
    return SummaryView(**vars(summary)) if summary else None


def compared_view(
    found: Difference, against: float, interval: Interval | None, p_adjusted: float | None
) -> ComparedView:
    """``against``: the mean that it is compared with, taken as exact where per cent of it are told."""
    low, high, p_value = (interval.low, interval.high, interval.p_value) if interval else (None, None, None)
    share = [None if value is None else per_cent_of(value, abs(against)) for value in (found.value, low, high)]
    return ComparedView(
        value=found.value,
        standard_error=found.standard_error,
        per_cent=share[0],
        low=low,
        high=high,
        per_cent_low=share[1],
        per_cent_high=share[2],
        p_value=p_value,
        p_adjusted=p_adjusted,
    )


def spent(found: Tally, spec: StudySpec) -> Spent:
    return Spent(
        gpu_seconds=found.seconds * spec.resources.gpus,
        cpu_seconds=found.seconds * spec.resources.cpus,
        passes_booked=found.passes_booked,
        passes_made=found.passes_made,
        passes_skipped=found.passes_skipped,
    )
