"""Early stopping of attacks, as pure functions: what earlier trials lived through gives the cuts of the next one.

A cut is the least that a trial must show at one check of its attack. All cuts of a trial are known before it starts, so
that whether it is stopped depends on nothing that happens while it runs, and the same trial started again is stopped
at the same check. What is judged is the objective as it stands at the check, the lowest forget loss so far where the
objective is the minimum. Optuna's pruners judge the best value so far; relearning curves fall, and that would be the
first check for ever.
"""

from collections.abc import Collection
from dataclasses import dataclass

from mudman import simulation
from mudman.results import Curve, Outcome
from mudman.specs import ObjectiveSpec, StudySpec
from mudman.specs.search import MedianPruner, PercentilePruner, SuccessiveHalvingPruner, ThresholdPruner


@dataclass(frozen=True)
class Told:
    """What an earlier trial showed."""

    valid: bool
    """It went to its end; otherwise it was stopped at its last check."""
    judged: dict[int, float]
    """Objective in nats per token, by passes of the attack."""

    @classmethod
    def of(cls, outcome: Outcome, relearning: Curve, objective: ObjectiveSpec) -> "Told | None":
        """None of a trial that did not come as far as the attack, or whose end says nothing of its hyper-parameters."""
        told = cls(outcome is Outcome.VALID, judged_curve(relearning, objective)) if outcome.counts else None
        return told if told and told.judged else None


def judged_curve(relearning: Curve, objective: ObjectiveSpec) -> dict[int, float]:
    """The objective as it stood at each check, by passes of the attack."""
    found, lowest = {}, float("inf")
    for passes, loss in zip(relearning.passes, relearning.forget_loss, strict=True):
        if passes > 0 and loss is not None:  # at 0 the attack has not begun
            lowest = min(lowest, loss)
            found[passes] = lowest if objective.reduce == "min" else loss
    return found


def cuts(spec: StudySpec, told: Collection[Told]) -> dict[int, float]:
    """The cuts of the next trial, in nats per token by passes of the attack. A trial is stopped below one.

    The attack's last check has none: nothing is left to skip.
    """
    pruner, checks = spec.pruner, _checks(spec)[:-1]
    match pruner:
        case MedianPruner() | PercentilePruner():
            found = _percentiles(pruner, checks, [each.judged for each in told if each.valid])
        case SuccessiveHalvingPruner():
            found = _rungs(pruner, checks, [each.judged for each in told])
        case ThresholdPruner():
            found = dict.fromkeys(checks, pruner.lower)
        case None:
            return {}
    warmup = getattr(pruner, "warmup_passes", 0)
    return {check: cut for check, cut in found.items() if check >= warmup}


def _checks(spec: StudySpec) -> tuple[int, ...]:
    return simulation.checks(spec) if spec.model.id == simulation.MODEL_ID else spec.attack.checks()


def _percentiles(
    pruner: MedianPruner | PercentilePruner, checks: tuple[int, ...], valid: list[dict[int, float]]
) -> dict[int, float]:
    import numpy as np

    if len(valid) < max(pruner.startup_trials, 1):
        return {}
    at = {check: [judged[check] for judged in valid if check in judged] for check in checks}
    return {
        check: float(np.percentile(values, 100 - pruner.percentile))
        for check, values in at.items()
        if len(values) >= pruner.min_trials
    }


def _rungs(pruner: SuccessiveHalvingPruner, checks: tuple[int, ...], told: list[dict[int, float]]) -> dict[int, float]:
    """With n others at a rung, the trial is among n + 1; the best ⌊(n + 1) / η⌋ of them pass, at least one."""
    found: dict[int, float] = {}
    rung = pruner.min_passes or (checks[0] if checks else 0)
    while reached := [check for check in checks if check >= rung]:
        check = reached[0]
        others = sorted((judged[check] for judged in told if check in judged), reverse=True)
        passing = max(1, (len(others) + 1) // pruner.reduction_factor)
        if passing <= len(others):
            found[check] = others[passing - 1]
        rung *= pruner.reduction_factor
    return found
