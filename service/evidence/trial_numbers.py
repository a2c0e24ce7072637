"""A trial's numbers against its own curves and measurements."""

from collections.abc import Iterator

from mudman import objective
from mudman.results import Curve, Outcome, TrialResult
from mudman.specs import StudySpec
from service.agreement import agree, differing
from service.export import ExportedTrial

SAME = ("value", "violation", "overrun", "stopped_at_pass", "judged", "passes_booked", "passes_made", "passes_skipped")
"""Numbers that stand both in the line and in the result, of which they were taken."""
_SILENT = (Outcome.LOST, Outcome.CANCELLED)
"""Outcomes of attempts that may end before they said anything."""


def disagreements(spec: StudySpec, trial: ExportedTrial, result: TrialResult | None) -> Iterator[str]:
    """By path within the line, with both values."""
    if result is None:
        if trial.outcome not in _SILENT:
            yield f"result: is missing, and nothing shows that the attempt ended as {trial.outcome!r}"
        return
    stated = {name: getattr(trial, name) for name in SAME} | {"outcome": trial.outcome}
    yield from differing(stated, {name: getattr(result, name) for name in stated}, "")
    if result.seconds:
        yield from differing({"seconds": trial.seconds}, {"seconds": result.seconds}, "")
    yield from (f"result.{line}" for line in of_result(spec, result))


def of_result(spec: StudySpec, result: TrialResult) -> Iterator[str]:
    """What a result states beside its curves, by path within it."""
    lowest, final = objective.attacked_losses(result.relearning)
    computed = {"forget_loss_min": lowest, "forget_loss_final": final}
    for name in ("forget_loss", "retain_loss"):
        computed[f"{name}_unlearned"] = _last(result.unlearning, name)
    computed["retain_loss_final"] = _last(result.relearning, "retain_loss")
    if result.device != "simulated":  # its curves stand for nothing
        yield from differing({name: getattr(result, name) for name in computed}, computed, "")
    if result.outcome != "valid":
        return
    found = objective.values(spec, result.relearning, result.measurements)
    if not any(agree(result.value, one) for one in found):
        yield f"value: {result.value!r} is stated, {found[0] if found else None!r} comes out"
    yield from _bound(spec, result)


def _bound(spec: StudySpec, result: TrialResult) -> Iterator[str]:
    """That a valid trial kept to the bound on the retain loss, and how near it came."""
    allowed = spec.constraint and spec.constraint.retain_loss_increase
    checks = [loss for loss in result.unlearning.retain_loss[1:] if loss is not None]
    if allowed is None or not checks or result.device == "simulated":
        return
    if (untouched := result.unlearning.retain_loss[0]) is None:
        yield "unlearning.retain_loss.0: None is stated, and a valid trial has a number there"
        return
    excess = max(checks) - (untouched + allowed)
    if excess > 1e-9:
        yield f"outcome: 'valid' is stated, and the retain loss is {excess!r} above its bound"
    others = (spec.constraint.kl, spec.constraint.mmlu_drop, spec.constraint.mmlu_floor)
    if all(bound is None for bound in others):
        yield from differing({"violation": result.violation}, {"violation": excess / (allowed or 1.0)}, "")


def _last(curve: Curve, name: str) -> float | None:
    losses = getattr(curve, name)
    return losses[-1] if losses else None
