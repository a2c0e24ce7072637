"""What a study or a comparison would cost, told before anything is stored."""

from typing import Any

from mudman.specs import StudySpec
from mudman.specs.comparison import ComparisonSpec
from service.view import View


class Cost(View):
    """What a study books, in passes (one forward or one backward over one batch)."""

    trials: int
    """Trials that count."""
    passes_per_trial: int
    """Unlearning and attack; fewer where a bound or the study's pruner stops a trial early."""
    baseline_passes: int
    """The same attack on the untouched model, once."""
    passes_total: int
    """All trials and the baseline; trials that do not count come on top."""


class DryRun(View):
    """A spec that would be accepted."""

    valid: bool
    spec: dict[str, Any]
    """The spec with its defaults filled in."""
    unused: list[str]
    """Settings that were given although the chosen variant does not use them."""
    cost: Cost


class VariantDryRun(View):
    study: str
    """Name that its study would have."""
    unused: list[str]
    cost: Cost


class ComparisonDryRun(View):
    """A comparison that would be accepted."""

    valid: bool
    variants: dict[str, VariantDryRun]
    """By variant, the baseline last."""
    trials: int
    """Of all studies, that count."""
    passes_total: int
    """All trials, and the attack on the untouched model once for each study; where studies share model, corpora and
    attack, it runs once for all of them."""


def comparison_dry_run(spec: ComparisonSpec) -> ComparisonDryRun:
    variants = {
        name: VariantDryRun(study=study.name, unused=study.unused(), cost=cost_of(study))
        for name, study in spec.studies.items()
    }
    costs = [variant.cost for variant in variants.values()]
    return ComparisonDryRun(
        valid=True,
        variants=variants,
        trials=sum(cost.trials for cost in costs),
        passes_total=sum(cost.passes_total for cost in costs),
    )


def cost_of(spec: StudySpec) -> Cost:
    unlearning = 0 if spec.method.type == "none" else spec.budget.unlearn_passes
    per_trial = unlearning + spec.attack.passes
    return Cost(
        trials=spec.budget.trials,
        passes_per_trial=per_trial,
        baseline_passes=spec.attack.passes,
        passes_total=spec.budget.trials * per_trial + spec.attack.passes,
    )
