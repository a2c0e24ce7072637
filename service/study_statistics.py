"""Statistics of one study: what it found, whether its search has come to rest and had room enough, what it spent."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mudman.specs import Range, StudySpec
from service.confirmation_views import ConfirmationView
from service.statistics import bootstrap, differences
from service.statistics.bootstrap import Sample
from service.statistics.compute import Attempt, Tally, total
from service.statistics.convergence import convergence
from service.statistics.means import TOP, summarise
from service.statistics.saturation import Place, Side, place
from service.statistics_views import (
    BootstrapView,
    ComparedView,
    Spent,
    SummaryView,
    compared_view,
    spent,
    summary_view,
)
from service.view import View
from service.widening import room


class BaselineView(ComparedView):
    """The mean against the same attack on the model without unlearning, which is taken as exact."""

    baseline: float
    verdict: Literal["better", "worse", "not distinguishable"]
    """At 5 %."""


class ConvergenceView(View):
    """The last valid trials against as many before them."""

    verdict: Literal["converged", "improving", "worsening", "too few trials"]
    """`improving`: the change is for the better at 5 %, or the best has gained more than the spread; `worsening`: the
    change is for the worse; `converged`: neither. With fewer than twice `last` valid trials nothing is claimed."""
    valid: int
    """Valid trials."""
    last: int
    """Trials on either side (`statistics.last`)."""
    change: float | None
    """Mean of the last ones minus mean of those before."""
    low: float | None
    """Lower end of the change's interval of 95 %, by block bootstrap."""
    high: float | None
    p_value: float | None
    best_after: int | None
    """Valid trials after which the best was known."""
    best_gain: float | None
    """By how much the best of the last ones is better than the best of all before; 0 where it is not."""
    spread: float | None
    """Standard deviation of the last ones."""


class RangeView(View):
    """Where the best trials lie in a range that is searched."""

    name: str
    """As in a trial's hyper-parameters."""
    range: Range
    best: float
    """Value of the best trial."""
    position: float
    """Of that value: 0 at the lower end, 1 at the upper one; of a log range by the logarithm."""
    at_edge: Side | None
    """End in whose tenth it lies: the published check."""
    top: int
    """Best trials that are looked at, ten at most."""
    top_low: int
    """Of these, those in the lowest tenth of the range."""
    top_high: int
    saturated: Side | None
    """End at which the range may be too narrow: the best lies there, and three in ten of the best trials."""
    widened: Range | None
    """What `POST …/widen` would search; null where nothing is saturated, or the setting has no more room."""


class ComputeView(Spent):
    attempts: int
    """Finished, whatever became of them."""


class StudyCompute(ComputeView):
    by_outcome: dict[str, ComputeView]


class StatisticsView(View):
    study: str
    """Id."""
    name: str
    state: str
    metric: str
    """Objective that the numbers are of."""
    direction: str
    """`maximize`: higher is better."""
    result: SummaryView | None
    """Null while no trial is valid."""
    to_baseline: BaselineView | None
    """Null without a result, or before the study is prepared."""
    convergence: ConvergenceView
    ranges: list[RangeView]
    """One per searched range; empty while no trial is valid."""
    saturated: list[str]
    """Names of the ranges that may be too narrow."""
    compute: StudyCompute
    """With pruned and failed trials."""
    confirmation: ConfirmationView | None = None
    """What is left of the best on fresh seeds, by the latest confirmation; null where nobody asked for one."""
    bootstrap: BootstrapView


def study_statistics(
    study: Any,
    parts: Mapping[str, Tally],
    top: Sequence[Attempt],
    *,
    confirmation: ConfirmationView | None = None,
    seed: int = 0,
) -> StatisticsView:
    """``study``: as a row of the store or of an export has it (``comparison_table.Variant``, with a name).
    ``parts``: what it found and spent, by outcome; ``top``: the best valid trials, best first, with their
    hyper-parameters."""
    spec = StudySpec.model_validate(study.spec)
    minimise, last = spec.objective.minimise, spec.statistics.last
    whole = total(parts)
    ranges = _ranges(spec, [one.hyperparameters for one in top[:TOP]])
    return StatisticsView(
        study=study.id,
        name=study.name,
        state=study.state,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        result=summary_view(summarise(whole.values, last, minimise=minimise)),
        to_baseline=_to_baseline(study, whole.values, last, minimise, seed),
        convergence=ConvergenceView(**vars(convergence(whole.values, last, minimise=minimise, seed=seed))),
        ranges=ranges,
        saturated=[one.name for one in ranges if one.saturated],
        compute=StudyCompute(
            **_compute(whole, spec),
            by_outcome={outcome: ComputeView(**_compute(parts[outcome], spec)) for outcome in sorted(parts)},
        ),
        confirmation=confirmation,
        bootstrap=BootstrapView.of(seed),
    )


def _compute(found: Tally, spec: StudySpec) -> dict[str, Any]:
    return {"attempts": sum(found.outcomes.values()), **spent(found, spec).model_dump()}


def _to_baseline(study: Any, values: list[float], last: int, minimise: bool, seed: int) -> BaselineView | None:
    baseline = ((study.preparation or {}).get("baseline") or {}).get("value")
    summary = summarise(values, last)
    if baseline is None or summary is None:
        return None
    gain = differences.gain(summary, baseline)
    found = bootstrap.interval(Sample(tuple(values[-last:]), "last", seed), baseline)
    verdict = differences.verdict(gain.value, found and found.p_value, minimise=minimise)
    view = compared_view(gain, baseline, found, found and found.p_value)
    return BaselineView(**view.model_dump(), baseline=baseline, verdict=verdict)


def _ranges(spec: StudySpec, top: Sequence[Mapping[str, float]]) -> list[RangeView]:
    searched = spec.search_space()
    # A row that another program wrote may lack some.
    places: dict[str, Place] = {
        name: place(name, space, top) for name, space in searched.items() if top and all(name in trial for trial in top)
    }
    return [
        RangeView(
            name=name,
            range=searched[name],
            **vars(found),
            widened=room(spec, name, found.saturated) if found.saturated else None,
        )
        for name, found in places.items()
    ]
