"""Gradient difference (arXiv 2203.12817): forget and retain gradient in one common step."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mudman.components import global_norm
from mudman.losses import cross_entropy, needs_hidden_states, unlearning_loss
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs.methods import GradientDifferenceSpec
from mudman.trace import Trace, agreeing, harmful


class GradientDifference(Unlearning):
    """w ← w − rate · (∇ unlearning loss + weight · ∇ retain cross-entropy), both gradients at the same w.

    Beside the model it holds these two gradients. Four passes a loop.
    """

    STATE = ("loop", "zero_norms")

    def __init__(self, model: nn.Module, spec: GradientDifferenceSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.loss = unlearning_loss(spec.loss)

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop on one batch of each set. Paused, the step has its retain part alone."""
        spec = self.spec
        self.loop += 1
        forget_batch, retain_batch = next(forget), next(retain)
        retain_loss = cross_entropy(self.passes.forward(retain_batch).logits, retain_batch)
        retaining = self.passes.gradients(retain_loss, self.weights)
        if paused:
            torch._foreach_add_(self.base, retaining, alpha=-spec.unlearning_rate * spec.retain_weight)
            return None, retain_loss.detach()

        output = self.passes.forward(forget_batch, needs_hidden_states(spec.loss))
        forget_loss = cross_entropy(output.logits, forget_batch)
        gradients = self.passes.gradients(self.loss(output, forget_batch), self.weights)
        norm = global_norm(gradients)
        self.zero_norms += norm == 0
        if self.trace is not None:
            self.trace.record(
                forget_loss=forget_loss,
                retain_loss=retain_loss,
                gradient_norm=norm,
                retain_norm=global_norm(retaining),
                agreeing=agreeing(gradients, retaining),
                kept=torch.ones_like(norm),
            )
        torch._foreach_add_(gradients, retaining, alpha=spec.retain_weight)
        torch._foreach_add_(self.base, gradients, alpha=-spec.unlearning_rate)
        if self.trace is not None:  # of the common step: its parts are never applied alone
            update_norm = global_norm(gradients) * spec.unlearning_rate
            self.trace.record(update_norm=update_norm, harmful=harmful(gradients, retaining))
        return forget_loss.detach(), retain_loss.detach()
