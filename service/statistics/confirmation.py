"""What is left of the best of a search when it is run again on fresh seeds and other held-out batches."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.statistics.bootstrap import CONFIDENCE
from service.statistics.compute import Attempt


@dataclass(frozen=True)
class Mean:
    """A mean of independent runs, in the unit of the objective."""

    value: float
    standard_error: float | None
    """Standard deviation (ddof 1) over the root of their number; unknown for a single one."""
    low: float | None
    """Lower end of the interval of 95 %, by Student's t; unknown for a single one."""
    high: float | None
    p_value: float | None
    """Of a true mean of 0, two-sided (t test); unknown for a single one, and where all are equal."""


@dataclass(frozen=True)
class Confirmed:
    """One configuration, in the search and after it."""

    ordinal: int
    """In the search."""
    searched: float
    """What the search found."""
    seeds: int
    """Runs asked for."""
    outcomes: dict[str, int]
    """Of the runs that ended."""
    mean: Mean | None
    """Over the valid runs; None while there is none."""
    shrinkage: Mean | None
    """``mean`` minus ``searched``, which is taken as exact."""
    gain: Mean | None
    """By how much a run is above the model without unlearning under the same seeds, mean over the valid runs."""
    gain_shrinkage: Mean | None
    """``gain`` minus the gain in the search: the shrinkage without what other held-out batches do to any model."""

    @property
    def valid(self) -> int:
        return self.outcomes.get("valid", 0)


@dataclass(frozen=True)
class Confirmation:
    configurations: list[Confirmed]
    """Best first, as confirmed: those that were valid most often, and of these the best mean."""
    difference: Mean | None
    """First of these minus the best of the search, over the seeds under which both were valid; None where they are the
    same, or no seed has both."""


def confirmation(
    searched: Mapping[int, float],
    seeds: int,
    runs: Iterable[Attempt],
    *,
    baseline: float | None = None,
    baselines: Sequence[float | None] = (),
    minimise: bool = False,
) -> Confirmation:
    """``searched``: what the search found by ordinal, best first. ``runs``: finished attempts of the study that runs
    them again, where trial ``i`` is configuration ``i // seeds`` under seed ``i % seeds``. ``baseline``: the model
    without unlearning as the search saw it, ``baselines``: under each seed."""
    ordinals = list(searched)
    values: dict[int, dict[int, float]] = {ordinal: {} for ordinal in ordinals}
    ended: dict[int, Counter[str]] = {ordinal: Counter() for ordinal in ordinals}
    for (ordinal, seed), run in _last(ordinals, seeds, runs).items():
        ended[ordinal][run.outcome] += 1
        if run.outcome == "valid" and run.value is not None:
            values[ordinal][seed] = run.value
    under = {seed: value for seed, value in enumerate(baselines) if value is not None}
    found = [
        _confirmed(ordinal, searched[ordinal], seeds, dict(ended[ordinal]), values[ordinal], baseline, under)
        for ordinal in ordinals
    ]
    found.sort(key=lambda one: _rank(one, minimise))
    return Confirmation(found, _difference(values[found[0].ordinal], values[ordinals[0]]))


def mean_of(values: Sequence[float], less: float = 0.0) -> Mean | None:
    """The mean of ``values`` minus ``less``, a constant. None of none."""
    if not values:
        return None
    n, mean = len(values), statistics.fmean(values) - less
    if n == 1:
        return Mean(mean, None, None, None, None)
    # Not at the top: SciPy takes a third of a second to import.
    from scipy import stats

    error = statistics.stdev(values) / math.sqrt(n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else None
    return Mean(mean, error, mean - reach, mean + reach, p_value)


def _last(ordinals: Sequence[int], seeds: int, runs: Iterable[Attempt]) -> dict[tuple[int, int], Attempt]:
    """How each configuration ended under each seed. What replaced a run that had ended without counting stands in the
    place of the first trials again: it is left out."""
    last: dict[tuple[int, int], Attempt] = {}
    for run in runs:
        if run.ordinal < len(ordinals) * seeds:
            place = (ordinals[run.ordinal // seeds], run.ordinal % seeds)
            if place not in last or last[place].attempt < run.attempt:
                last[place] = run
    return last


def _confirmed(
    ordinal: int,
    searched: float,
    seeds: int,
    outcomes: dict[str, int],
    values: Mapping[int, float],
    baseline: float | None,
    baselines: Mapping[int, float],
) -> Confirmed:
    gains = [value - baselines[seed] for seed, value in sorted(values.items()) if seed in baselines]
    return Confirmed(
        ordinal=ordinal,
        searched=searched,
        seeds=seeds,
        outcomes=outcomes,
        mean=mean_of(list(values.values())),
        shrinkage=mean_of(list(values.values()), searched),
        gain=mean_of(gains),
        gain_shrinkage=None if baseline is None else mean_of(gains, searched - baseline),
    )


def _rank(one: Confirmed, minimise: bool) -> tuple[int, float, int]:
    mean = math.inf if one.mean is None else one.mean.value if minimise else -one.mean.value
    return -one.valid, mean, one.ordinal


def _difference(best: Mapping[int, float], searched: Mapping[int, float]) -> Mean | None:
    if best is searched:
        return None
    return mean_of([best[seed] - searched[seed] for seed in sorted(best.keys() & searched.keys())])
