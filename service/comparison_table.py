"""The table of a comparison: one row per variant, computed from the values of its trials."""

from dataclasses import dataclass
from typing import Any, Literal

from mudman.specs import StudySpec
from mudman.specs.comparison import BASELINE
from service import statistics
from service.statistics import Difference, Summary
from service.store.standing import Tally, minimised
from service.store.tables import Study
from service.views import View


class SummaryView(View):
    """Over the last valid trials, in the unit of the objective."""

    n: int
    """Trials that it is taken over; fewer than `last` where there are not so many."""
    last: int
    """Trials asked for (`statistics.last`)."""
    mean: float
    standard_error: float | None
    """Standard deviation with ddof 1 over the root of n; null for one trial."""
    standard_error_published: float
    """As published: standard deviation with ddof 0 over the root of `last`."""
    median: float
    best: float
    """Of all valid trials."""


class DifferenceView(View):
    value: float
    standard_error: float | None


class Spent(View):
    """By all attempts at trials, whatever became of them; without preparation."""

    gpu_seconds: float
    cpu_seconds: float
    passes_booked: int
    """As the published procedure books them."""
    passes_made: int
    passes_skipped: int
    """Booked passes that the pruner left out."""


Verdict = Literal["reference", "better", "worse", "unresolved"]


class Row(View):
    variant: str
    study: str
    """Id."""
    state: str
    result: SummaryView | None
    """Null while no trial is valid."""
    reason: str | None
    """Why there is no result."""
    to_reference: DifferenceView | None
    """Mean minus that of the reference; the baseline as reference is taken as exact."""
    to_baseline: DifferenceView | None
    """Mean minus the baseline, which is taken as exact."""
    per_cent_of_reference: float | None
    """Gain over the baseline, in per cent of the reference's gain."""
    reference_lead: float | None
    """Per cent of this mean by which the reference's is better; negative where it is worse."""
    verdict: Verdict | None
    """Against the reference: `better` or `worse` beyond two standard errors of the difference, else `unresolved`; null
    without a result, or against one of another objective or other evaluations."""
    outcomes: dict[str, int]
    """Finished attempts by outcome."""
    trials: int
    """Trials asked for."""
    spent: Spent


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


@dataclass(frozen=True)
class _Entry:
    study: Study
    spec: StudySpec
    tally: Tally
    summary: Summary | None


def table(comparison_id: str, name: str, studies: list[Study], tallies: dict[str, Tally], reference: str) -> TableView:
    """``studies`` in the comparison's order; ``reference`` is the variant of one of them."""
    entries = {study.variant: _entry(study, tallies.get(study.id, Tally())) for study in studies}
    main, untouched = entries[reference], entries.get(BASELINE)
    if untouched is not None and untouched.spec.method.type != "none":
        untouched = None  # a variant that happens to have this name
    rows = {variant: _row(entry, main, untouched) for variant, entry in entries.items()}
    return TableView(
        comparison=comparison_id,
        name=name,
        metric=main.spec.objective.metric,
        direction=main.spec.objective.direction,
        reference=reference,
        baseline=rows.pop(BASELINE) if untouched else None,
        rows=list(rows.values()),
    )


def _entry(study: Study, tally: Tally) -> _Entry:
    spec = StudySpec.model_validate(study.spec)
    summary = statistics.summarise(tally.values, spec.statistics.last, minimise=minimised(study.spec))
    return _Entry(study, spec, tally, summary)


def _row(entry: _Entry, main: _Entry, untouched: _Entry | None) -> Row:
    summary, comparable = entry.summary, _measure(entry.spec) == _measure(main.spec)
    to_reference = to_baseline = share = lead = None
    verdict = "reference" if entry is main and summary else None
    if summary and main.summary and comparable and entry is not main:
        lower = minimised(entry.study.spec)
        if main is untouched:
            to_reference = statistics.gain(summary, main.summary.mean)
        else:
            to_reference = statistics.difference(summary, main.summary)
        if entry is not untouched:
            verdict = statistics.verdict(to_reference, minimise=lower)
        lead = statistics.per_cent_of(to_reference.value if lower else -to_reference.value, summary.mean)
    baseline, of_main = _baseline_of(entry, untouched), _baseline_of(main, untouched)
    if summary and baseline is not None and entry is not untouched:
        to_baseline = statistics.gain(summary, baseline)
        if main.summary and of_main is not None and comparable:
            share = statistics.per_cent_of(to_baseline.value, main.summary.mean - of_main)
    return Row(
        variant=entry.study.variant,
        study=entry.study.id,
        state=entry.study.state,
        result=SummaryView(**vars(summary)) if summary else None,
        reason=None if summary else _reason(entry),
        to_reference=_view(to_reference),
        to_baseline=_view(to_baseline),
        per_cent_of_reference=share,
        reference_lead=lead,
        verdict=verdict,
        outcomes=entry.tally.outcomes,
        trials=entry.spec.budget.trials,
        spent=Spent(
            gpu_seconds=entry.tally.seconds * entry.spec.resources.gpus,
            cpu_seconds=entry.tally.seconds * entry.spec.resources.cpus,
            passes_booked=entry.tally.passes_booked,
            passes_made=entry.tally.passes_made,
            passes_skipped=entry.tally.passes_skipped,
        ),
    )


def _baseline_of(entry: _Entry, untouched: _Entry | None) -> float | None:
    """What the same attack comes to without unlearning: by the baseline's study where it has a result and the same
    conditions, else as it was measured when the study was prepared."""
    if untouched and untouched.summary and _conditions(untouched.spec) == _conditions(entry.spec):
        return untouched.summary.mean
    return ((entry.study.preparation or {}).get("baseline") or {}).get("value")


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
