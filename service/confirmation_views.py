"""What is answered of a study's confirmation."""

from typing import Any

from mudman.specs import StudySpec
from service.statistics import confirmation
from service.statistics.compute import Attempt
from service.view import View


class MeanView(View):
    """Over independent runs, in the unit of the objective (docs/statistics.md)."""

    value: float
    standard_error: float | None
    """Standard deviation with ddof 1 over the root of their number; null for a single run."""
    low: float | None
    """Lower end of the interval of 95 %, by Student's t."""
    high: float | None
    p_value: float | None
    """Of a true mean of 0, two-sided, by a t test."""


class ConfirmedView(View):
    """One configuration, in the search and after it."""

    ordinal: int
    """Its trial in the search."""
    searched: float
    """What the search found."""
    seeds: int
    """Runs asked for."""
    outcomes: dict[str, int]
    """Of the runs that ended."""
    mean: MeanView | None
    """Over the valid runs; null while there is none. Its `p_value` is of no interest."""
    shrinkage: MeanView | None
    """`mean` minus `searched`."""
    gain: MeanView | None
    """Above the model without unlearning under the same seeds."""
    gain_shrinkage: MeanView | None
    """`gain` minus the gain in the search: without what other held-out batches do to any model."""


class ConfirmationView(View):
    """What is left of the best of the search on fresh seeds and other held-out batches."""

    study: str
    """Id of the study that runs them."""
    state: str
    complete: bool
    """Whether every run has ended: until then the numbers move."""
    runs: int
    """Asked for."""
    seeds: list[dict[str, int]]
    """`data` and `trial` of each run of a configuration."""
    baseline: float | None
    """The model without unlearning in the search."""
    baselines: list[float | None]
    """Likewise under each pair of seeds."""
    best_of_search: int
    """Ordinal."""
    confirmed_best: int | None
    """Ordinal of the first in `configurations`; null while no run is valid."""
    difference: MeanView | None
    """`confirmed_best` minus `best_of_search`, by pairs of the same seeds; null where they are the same."""
    configurations: list[ConfirmedView]
    """Best first, as confirmed: those that were valid most often, and of these the best mean."""


def confirmation_view(searched: Any, repeating: Any, runs: list[Attempt]) -> ConfirmationView:
    """``searched`` and ``repeating``: the two studies, as rows of the store or of an export. ``runs``: finished
    attempts of the latter."""
    spec = StudySpec.model_validate(repeating.spec)
    repeats = spec.repeats
    baseline = _value((searched.preparation or {}).get("baseline"))
    baselines = [_value(one) for one in (repeating.preparation or {}).get("baselines", ())]
    found = confirmation.confirmation(
        {one.ordinal: one.value for one in repeats.configurations},
        len(repeats.seeds),
        runs,
        baseline=baseline,
        baselines=baselines,
        minimise=spec.objective.minimise,
    )
    first = found.configurations[0]
    return ConfirmationView(
        study=repeating.id,
        state=repeating.state,
        complete=repeating.state == "completed",
        runs=repeats.trials,
        seeds=[one.model_dump() for one in repeats.seeds],
        baseline=baseline,
        baselines=baselines,
        best_of_search=repeats.configurations[0].ordinal,
        confirmed_best=first.ordinal if first.mean else None,
        difference=_mean(found.difference),
        configurations=[
            ConfirmedView(
                **{name: getattr(one, name) for name in ("ordinal", "searched", "seeds", "outcomes")},
                **{name: _mean(getattr(one, name)) for name in ("mean", "shrinkage", "gain", "gain_shrinkage")},
            )
            for one in found.configurations
        ],
    )


def _mean(found: confirmation.Mean | None) -> MeanView | None:
    return MeanView(**vars(found)) if found else None


def _value(result: dict[str, Any] | None) -> float | None:
    return (result or {}).get("value")
