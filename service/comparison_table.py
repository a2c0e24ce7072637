"""The table of a comparison: one row per variant, computed from the values of its trials."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mudman.specs import StudySpec
from mudman.specs.comparison import BASELINE
from service.original import original
from service.published import PublishedView
from service.statistics import bootstrap, differences, holm
from service.statistics.bootstrap import Interval, Sample
from service.statistics.compute import Attempt, Tally, tally, within
from service.statistics.differences import Difference
from service.statistics.means import Summary, summarise
from service.statistics_views import (
    BootstrapView,
    ComparedView,
    DifferenceView,
    Spent,
    SummaryView,
    compared_view,
    spent,
    summary_view,
)
from service.view import View

Measure = Literal["trials", "passes_booked", "passes_made", "gpu_seconds", "cpu_seconds"]
"""What compute is counted in; trials: finished attempts, whatever became of them."""
Verdict = Literal["reference", "better", "worse", "not distinguishable"]


class Variant(Protocol):
    """A study as a row of the store, or of an export, has it."""

    id: str
    variant: str | None
    state: str
    spec: dict[str, Any]
    problem: dict[str, Any] | None
    preparation: dict[str, Any] | None


class Row(View):
    variant: str
    study: str
    """Id."""
    state: str
    result: SummaryView | None
    """Null while no trial is valid."""
    published: PublishedView | None = None
    """Where the comparison comes from a preset that has a published result of this variant."""
    reason: str | None
    """Why there is no result."""
    to_reference: ComparedView | None
    """Mean minus that of the reference; the baseline as reference is taken as exact."""
    to_baseline: DifferenceView | None
    """Mean minus the baseline, which is taken as exact."""
    per_cent_of_reference: float | None
    """Gain over the baseline, in per cent of the reference's gain."""
    reference_lead: float | None
    """Per cent of this mean by which the reference's is better; negative where it is worse."""
    verdict: Verdict | None
    """Against the reference: `better` or `worse` where `to_reference.p_adjusted` is below 0.05, else `not
    distinguishable`; null without a result, or against one of another objective or other evaluations."""
    outcomes: dict[str, int]
    """Finished attempts by outcome."""
    trials: int
    """Trials asked for."""
    spent: Spent


class EqualCompute(View):
    """Every variant stands as it did when it had spent as much as the one that spent least."""

    measure: Measure
    budget: float
    """What each may have spent, in trials, passes or seconds."""
    set_by: str
    """Variant that spent least, of those that have spent anything; the baseline takes no part."""


class OriginalView(View):
    """The model as it came: neither unlearned nor attacked, measured when the studies were prepared."""

    value: float
    """The objective."""
    forget_loss: float
    """Nats per token."""
    retain_loss: float


class TableView(View):
    comparison: str
    """Id."""
    name: str
    metric: str
    """Objective that the numbers are of."""
    direction: str
    """`maximize`: higher is better."""
    reference: str
    """Variant that the others are measured against."""
    rows: list[Row]
    """One per variant, in the comparison's order."""
    baseline: Row | None
    """The same attack on the model without unlearning; null where the comparison has none."""
    original: OriginalView | None
    """What there was to lose: the model without unlearning and without attack; null until it is measured."""
    bootstrap: BootstrapView
    """How intervals and p-values were made: the same seed gives the same numbers."""
    equal_compute: EqualCompute | None
    """Where it was asked for."""


@dataclass(frozen=True)
class _Entry:
    study: Variant
    spec: StudySpec
    tally: Tally
    summary: Summary | None
    sample: Sample
    """Values that the mean is taken over."""


def table(
    comparison_id: str,
    name: str,
    studies: Sequence[Variant],
    tallies: Mapping[str, Tally],
    reference: str,
    *,
    seed: int = 0,
    equal_compute: EqualCompute | None = None,
    published: Mapping[str, PublishedView] = {},
) -> TableView:
    """``studies`` in the comparison's order; ``reference`` is the variant of one of them. ``published``: by variant."""
    entries = {study.variant: _entry(study, tallies.get(study.id, Tally()), seed) for study in studies}
    main, untouched = entries[reference], entries.get(BASELINE)
    if untouched is not None and untouched.spec.method.type != "none":
        untouched = None  # a variant that happens to have this name
    intervals = {
        variant: _interval(entry, main, untouched) for variant, entry in entries.items() if _compared(entry, main)
    }
    family = {
        variant: found.p_value
        for variant, found in intervals.items()
        if found is not None and entries[variant] is not untouched
    }
    adjusted = holm.adjusted(family)
    rows = {
        variant: _row(entry, main, untouched, intervals.get(variant), adjusted.get(variant), published.get(variant))
        for variant, entry in entries.items()
    }
    return TableView(
        comparison=comparison_id,
        name=name,
        metric=main.spec.objective.metric,
        direction=main.spec.objective.direction,
        reference=reference,
        baseline=rows.pop(BASELINE) if untouched else None,
        rows=list(rows.values()),
        original=_original(main, entries.values()),
        bootstrap=BootstrapView.of(seed),
        equal_compute=equal_compute,
    )


def at_equal_compute(
    studies: Sequence[Variant], attempts: Mapping[str, Sequence[Attempt]], measure: Measure
) -> tuple[dict[str, Tally], EqualCompute]:
    """What each study had found when it had spent as much as the one that spent least by now; studies that have spent
    nothing set no measure, and the baseline, which is one trial, is left whole."""
    specs = {study.id: StudySpec.model_validate(study.spec) for study in studies}
    unlearning = [study for study in studies if specs[study.id].method.type != "none"] or list(studies)
    spends = {study.id: sum(_cost(specs[study.id], measure, one) for one in attempts[study.id]) for study in unlearning}
    least = min(unlearning, key=lambda study: spends[study.id] or math.inf)
    budget = spends[least.id]
    tallies = {study.id: tally(attempts[study.id]) for study in studies}
    for study in unlearning:
        kept = within(attempts[study.id], budget, lambda one, spec=specs[study.id]: _cost(spec, measure, one))
        tallies[study.id] = tally(kept)
    return tallies, EqualCompute(measure=measure, budget=budget, set_by=least.variant)


def _cost(spec: StudySpec, measure: Measure, one: Attempt) -> float:
    match measure:
        case "trials":
            return 1
        case "gpu_seconds":
            return one.seconds * spec.resources.gpus
        case "cpu_seconds":
            return one.seconds * spec.resources.cpus
    return getattr(one, measure)


def _entry(study: Variant, found: Tally, seed: int) -> _Entry:
    spec = StudySpec.model_validate(study.spec)
    last = spec.statistics.last
    summary = summarise(found.values, last, minimise=spec.objective.minimise)
    return _Entry(study, spec, found, summary, Sample(tuple(found.values[-last:]), study.variant, seed))


def _compared(entry: _Entry, main: _Entry) -> bool:
    """Whether there are two means of the same thing."""
    same = _measure(entry.spec) == _measure(main.spec)
    return bool(entry.summary and main.summary and same and entry is not main)


def _interval(entry: _Entry, main: _Entry, untouched: _Entry | None) -> Interval | None:
    if entry is untouched:  # one trial, taken as exact
        found = bootstrap.interval(main.sample, entry.summary.mean)
        return found and Interval(-found.high, -found.low, found.p_value)
    return bootstrap.interval(entry.sample, main.summary.mean if main is untouched else main.sample)


def _row(
    entry: _Entry,
    main: _Entry,
    untouched: _Entry | None,
    interval: Interval | None,
    p_adjusted: float | None,
    published: PublishedView | None,
) -> Row:
    summary, comparable = entry.summary, _measure(entry.spec) == _measure(main.spec)
    to_reference = to_baseline = share = lead = None
    verdict = "reference" if entry is main and summary else None
    if _compared(entry, main):
        lower = entry.spec.objective.minimise
        if main is untouched:
            found = differences.gain(summary, main.summary.mean)
        elif entry is untouched:
            found = Difference(summary.mean - main.summary.mean, main.summary.standard_error)
        else:
            found = differences.difference(summary, main.summary)
        if entry is not untouched:
            verdict = differences.verdict(found.value, p_adjusted, minimise=lower)
        to_reference = compared_view(found, main.summary.mean, interval, p_adjusted)
        lead = differences.per_cent_of(found.value if lower else -found.value, summary.mean)
    baseline, of_main = _baseline_of(entry, untouched), _baseline_of(main, untouched)
    if summary and baseline is not None and entry is not untouched:
        to_baseline = differences.gain(summary, baseline)
        if main.summary and of_main is not None and comparable:
            share = differences.per_cent_of(to_baseline.value, main.summary.mean - of_main)
    return Row(
        variant=entry.study.variant,
        study=entry.study.id,
        state=entry.study.state,
        result=summary_view(summary),
        published=published,
        reason=None if summary else _reason(entry),
        to_reference=to_reference,
        to_baseline=_view(to_baseline),
        per_cent_of_reference=share,
        reference_lead=lead,
        verdict=verdict,
        outcomes=entry.tally.outcomes,
        trials=entry.spec.budget.trials,
        spent=spent(entry.tally, entry.spec),
    )


def _baseline_of(entry: _Entry, untouched: _Entry | None) -> float | None:
    """What the same attack comes to without unlearning: by the baseline's study where it has a result and the same
    conditions, else as it was measured when the study was prepared."""
    if untouched and untouched.summary and _conditions(untouched.spec) == _conditions(entry.spec):
        return untouched.summary.mean
    return ((entry.study.preparation or {}).get("baseline") or {}).get("value")


def _original(main: _Entry, entries: Iterable[_Entry]) -> OriginalView | None:
    """As it was measured for the reference, or for a study under the same conditions."""
    for entry in (main, *entries):
        prepared = entry.study.preparation
        if prepared and _conditions(entry.spec) == _conditions(main.spec):
            value = original(entry.spec, prepared)
            if value is not None:
                losses = {name: prepared[f"initial_{name}"] for name in ("forget_loss", "retain_loss")}
                return OriginalView(value=value, **losses)
    return None


def _conditions(spec: StudySpec) -> tuple[Any, ...]:
    """What the number of an untouched model depends on."""
    return (spec.model, spec.forget, spec.retain, spec.batch, spec.attack, spec.seeds, *_measure(spec))


def _measure(spec: StudySpec) -> tuple[Any, ...]:
    """What two numbers must have in common to be compared: an accuracy depends on the questions, too."""
    return (spec.objective, spec.evaluations)


def _reason(entry: _Entry) -> str:
    if entry.study.problem:
        return str(entry.study.problem.get("detail") or entry.study.problem.get("title"))
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(entry.tally.outcomes.items())) or "none"
    return f"no trial is valid; the study is {entry.study.state}, finished trials: {ended}"


def _view(found: Difference | None) -> DifferenceView | None:
    return DifferenceView(**vars(found)) if found else None
