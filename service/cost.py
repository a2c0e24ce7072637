"""What a study would cost, told before anything is stored."""

from typing import Any

from mudman.specs import StudySpec
from service.views import View


class Cost(View):
    """What a study books, in passes (one forward or one backward over one batch)."""

    trials: int
    """Trials that count."""
    passes_per_trial: int
    """Unlearning and attack; fewer where a trial is stopped early."""
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


def cost_of(spec: StudySpec) -> Cost:
    per_trial = spec.budget.unlearn_passes + spec.attack.passes
    return Cost(
        trials=spec.budget.trials,
        passes_per_trial=per_trial,
        baseline_passes=spec.attack.passes,
        passes_total=spec.budget.trials * per_trial + spec.attack.passes,
    )
