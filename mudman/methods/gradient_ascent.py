"""Gradient ascent: plain descent on the unlearning loss, the classic baseline."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mudman.components import global_norm
from mudman.losses import cross_entropy, needs_hidden_states, unlearning_loss
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs.methods import GradientAscentSpec
from mudman.trace import Trace


class GradientAscent(Unlearning):
    """w ← w − rate · ∇ unlearning loss. Beside the model it holds one gradient. Two passes a loop."""

    STATE = ("loop", "zero_norms")

    def __init__(self, model: nn.Module, spec: GradientAscentSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.loss = unlearning_loss(spec.loss)

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop on one forget batch."""
        self.loop += 1
        batch = next(forget)
        output = self.passes.forward(batch, needs_hidden_states(self.spec.loss))
        forget_loss = cross_entropy(output.logits, batch).detach()
        gradients = self.passes.gradients(self.loss(output, batch), self.weights)
        norm = global_norm(gradients)
        self.zero_norms += norm == 0
        torch._foreach_add_(self.base, gradients, alpha=-self.spec.unlearning_rate)
        if self.trace is not None:
            self.trace.record(forget_loss=forget_loss, gradient_norm=norm, update_norm=norm * self.spec.unlearning_rate)
            self.trace.record(kept=torch.ones_like(norm))
        return forget_loss, None
