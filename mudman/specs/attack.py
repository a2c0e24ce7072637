"""What a trial is attacked with, what it may spend, what it may cost, and what it is judged by."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from mudman.faults import FieldFault, between_fields
from mudman.specs.base import CHECK_EVERY, MOST_PASSES, Model
from mudman.specs.components import LoraSpec
from mudman.specs.sources import CorpusSpec


class AttackSpec(Model):
    """Relearning: plain training on the forget set that tries to bring the capability back."""

    type: Literal["relearn"] = "relearn"
    optimizer: Literal["sgd"] = "sgd"
    rate: float = Field(gt=0)
    """Learning rate, constant; on all parameters, or on the adapters."""
    passes: int = Field(ge=2, le=MOST_PASSES)
    """Passes of the attack: two a loop, four with retain mixed in."""
    check_every: int = Field(CHECK_EVERY, ge=1, le=MOST_PASSES)
    """Passes between two evaluations along the attack."""
    retain: bool = False
    """Mix a retain step into every loop."""
    texts: CorpusSpec | None = None
    """What the attacker trains on, where it is not the validation part of the forget corpus: other facts of the same
    domain show whether unlearning reaches what was never attacked (arXiv 2410.08827)."""
    lora: LoraSpec | None = None
    """Train adapters on all linear modules instead of all parameters."""

    def passes_per_loop(self) -> int:
        return 4 if self.retain else 2

    def checks(self) -> tuple[int, ...]:
        """Booked passes at which it is evaluated: where a loop crosses a multiple of ``check_every``, and its end."""
        loop = self.passes_per_loop()
        crossings = {-(-multiple // loop) * loop for multiple in range(self.check_every, self.passes, self.check_every)}
        return (*sorted(crossings - {self.passes}), self.passes)


class BudgetSpec(Model):
    unlearn_passes: int = Field(ge=0, le=MOST_PASSES)
    """Passes of unlearning in one trial."""
    trials: int = Field(ge=1, le=1_000_000)
    """Trials that count (valid, over budget, diverged or pruned) after which the study is complete."""


class ConstraintSpec(Model):
    """What a trial may cost; checked along unlearning, where the trial ends at once if it is over.

    The untouched model is measured in the dtype of the trials (the published code measures it in float32).
    """

    retain_loss_increase: float | None = Field(None, ge=0)
    """Nats per token by which the retain loss may rise above that of the untouched model."""
    pause_at: float | None = Field(None, ge=0)
    """Nats per token above the untouched model at which unlearning pauses: until the next check that finds the loss
    below, only the retain step goes on. Must lie below ``retain_loss_increase``, where the trial ends."""
    check_every: int = Field(CHECK_EVERY, ge=1, le=MOST_PASSES)
    """Unlearning passes between two checks."""
    kl: float | None = Field(None, gt=0)
    """Nats per token by which predictions on the retain set may diverge from the original's (KL); same checks."""
    mmlu_drop: float | None = Field(None, ge=0, le=1)
    """Accuracy that may be lost on the evaluation that measures utility."""
    mmlu_floor: float | None = Field(None, ge=0, le=1)
    """Accuracy on it below which the trial ends."""
    mmlu_every: int = Field(120, ge=1, le=MOST_PASSES)
    """Unlearning passes between two checks of that accuracy."""

    @model_validator(mode="after")
    def _bounds_something(self) -> "ConstraintSpec":
        bounds = (self.retain_loss_increase, self.kl, self.mmlu_drop, self.mmlu_floor)
        if all(bound is None for bound in bounds):
            remedy = "give retain_loss_increase, kl, mmlu_drop or mmlu_floor, or leave the constraint out"
            raise between_fields([FieldFault("", "bounds nothing", remedy)])
        if self.pause_at is not None and (
            self.retain_loss_increase is None or self.pause_at >= self.retain_loss_increase
        ):
            message, remedy = "must lie below retain_loss_increase, at which the trial ends", "give both, in that order"
            raise between_fields([FieldFault("pause_at", message, remedy)])
        return self

    @property
    def bounds_utility(self) -> bool:
        """Whether accuracy on the evaluation that measures utility is bounded."""
        return self.mmlu_drop is not None or self.mmlu_floor is not None


class ObjectiveSpec(Model):
    metric: Literal["forget_loss", "wmdp_accuracy", "cloze_accuracy"] = "forget_loss"
    """``wmdp_accuracy``: of the multiple-choice evaluation that measures forgetting; ``cloze_accuracy``: of the
    cloze; both after the attack."""
    reduce: Literal["min", "final"] = "min"
    """``min``: over the attack's checks, the strongest moment of the attacker; ``final``: at its end."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """A forget loss is maximised, an accuracy on what is to be forgotten minimised."""

    @model_validator(mode="after")
    def _fits(self) -> "ObjectiveSpec":
        wanted = ("maximize", ("min", "final")) if self.metric == "forget_loss" else ("minimize", ("final",))
        if self.direction != wanted[0] or self.reduce not in wanted[1]:
            message = f"{self.metric} goes with direction: {wanted[0]} and reduce: {' or '.join(wanted[1])}"
            raise between_fields([FieldFault("", message, "give these, or leave out what is not given")])
        return self

    @property
    def minimise(self) -> bool:
        """Whether lower values are better."""
        return self.direction == "minimize"


def minimised(spec: Mapping[str, Any]) -> bool:
    """``ObjectiveSpec.minimise`` by a stored spec, which may leave out defaults."""
    return spec.get("objective", {}).get("direction") == "minimize"
