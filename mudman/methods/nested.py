"""Meta-learning in nested loops: the early form of meta-unlearning (arXiv 2506.12484, appendix E; MLAC, arXiv
2211.14946).

In every loop each adversary is a fresh copy of the model that is trained for some steps; the unlearning gradient where
it ends is carried back to the model. At first order that gradient is applied as it is; at second order it is
differentiated through the adversary's steps, whose graphs then all stay in memory: for small models.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mudman.components import accumulate_, global_norm, mask_disruption_, normalize_
from mudman.losses import cross_entropy, needs_hidden_states, unlearning_loss
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs.methods import NestedSpec
from mudman.swap import swapped
from mudman.trace import Trace, agreeing, harmful


class Nested(Unlearning):
    """Beside the model: accumulator, one copy, the gradients' sum and one gradient."""

    STATE = ("loop", "zero_norms", "retain_average")

    def __init__(self, model: nn.Module, spec: NestedSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.retain_average = [torch.zeros_like(weight) for weight in self.base]
        self.unlearning_loss, self.with_states = unlearning_loss(spec.loss), needs_hidden_states(spec.loss)

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop; the forget loss is the mean over the trained adversaries."""
        spec = self.spec
        self.loop += 1
        retain_loss = self._retain_step(next(retain))
        if paused:
            return None, retain_loss

        carried_back = self._through_the_steps if spec.order == "second" else self._where_they_lead
        gradients, losses = carried_back(forget)
        for _ in range(1, spec.adversaries):
            more, loss = carried_back(forget)
            torch._foreach_add_(gradients, more)
            losses = losses + loss
        torch._foreach_div_(gradients, spec.adversaries)
        forget_loss = losses / spec.adversaries

        raw_norm = global_norm(gradients)
        self.zero_norms += raw_norm == 0
        if self.trace is not None:
            share = agreeing(gradients, self.retain_average)
            self.trace.record(forget_loss=forget_loss, gradient_norm=raw_norm, agreeing=share)
        if spec.mask.type == "sign":
            mask_disruption_(gradients, self.retain_average)
        if self.trace is not None:
            self.trace.record(kept=global_norm(gradients) / raw_norm)
        normalize_(gradients, spec.normalization, "rms", raw_norm)
        torch._foreach_add_(self.base, gradients, alpha=-spec.unlearning_rate)
        if self.trace is not None:
            self.trace.record(update_norm=global_norm(gradients) * spec.unlearning_rate)
            self.trace.record(harmful=harmful(gradients, self.retain_gradients))
        return forget_loss, retain_loss

    def _retain_step(self, tokens: Tensor) -> Tensor:
        loss = cross_entropy(self.passes.forward(tokens).logits, tokens)
        gradients = self.passes.gradients(loss, self.weights)
        accumulate_(self.retain_average, gradients, self.spec.retain_momentum)
        torch._foreach_add_(self.base, self.retain_average, alpha=-self.spec.retaining_rate)
        if self.trace is not None:
            self.trace.record(retain_loss=loss, retain_norm=global_norm(gradients))
            self.retain_gradients = gradients
        return loss.detach()

    def _where_they_lead(self, forget: Iterator[Tensor]) -> tuple[list[Tensor], Tensor]:
        """First order: ∇ of the unlearning loss at the trained adversary; and its cross-entropy there."""
        adversary = [weight.clone() for weight in self.base]

        def descend(index: int, gradient: Tensor) -> None:
            adversary[index].add_(gradient, alpha=-self.spec.adversary_rate)

        with swapped(self.weights, adversary):
            for _ in range(self.spec.inner_steps):
                tokens = next(forget)
                loss = cross_entropy(self.passes.forward(tokens).logits, tokens)
                self.passes.consume_gradients(loss, self.weights, descend)
            tokens = next(forget)
            output = self.passes.forward(tokens, self.with_states)
            gradients = self.passes.gradients(self.unlearning_loss(output, tokens), self.weights)
        return gradients, cross_entropy(output.logits.detach(), tokens)

    def _through_the_steps(self, forget: Iterator[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Second order: ∇ with respect to the model of the loss that its adversary ends with."""
        adversary = self.weights
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be differentiated twice
            for _ in range(self.spec.inner_steps):
                tokens = next(forget)
                loss = cross_entropy(self._forward_at(adversary, tokens).logits, tokens)
                gradients = self.passes.gradients(loss, adversary, create_graph=True)
                adversary = [w - self.spec.adversary_rate * g for w, g in zip(adversary, gradients, strict=True)]
            tokens = next(forget)
            output = self._forward_at(adversary, tokens)
            gradients = self.passes.gradients(self.unlearning_loss(output, tokens), self.weights)
        return gradients, cross_entropy(output.logits.detach(), tokens)

    def _forward_at(self, weights: list[Tensor], tokens: Tensor):
        return self.passes.forward(tokens, self.with_states, dict(zip(self.intervened, weights, strict=True)))
