"""MUDMAN: meta-unlearning with Disruption Masking and normalisation (arXiv 2506.12484, Algorithm 1, Listing 1).

Step numbers are those of the published procedure (docs/method.md). Besides the model, the method holds three copies of
the intervened weights: adversary, accumulator, one gradient (a fourth with forget momentum or a representation loss).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mudman.components import accumulate_, damp_growth_, global_norm, mask_disruption_, normalize_
from mudman.losses import UNLEARNING_LOSSES, cross_entropy, representation_distance
from mudman.modules import matching_weights
from mudman.passes import Passes
from mudman.specs import MudmanSpec


class Mudman:
    """State of one unlearning run. ``step`` is one loop; the model's own weights are those being unlearned."""

    def __init__(self, model: nn.Module, spec: MudmanSpec, passes: Passes):
        matched = matching_weights(model, spec.target_modules)
        self.spec, self.passes, self.loop = spec, passes, 0
        self.intervened = tuple(matched)
        self.weights = list(matched.values())
        self.base = [weight.data for weight in self.weights]
        self.has_adversary = spec.adversary.type != "none"
        # Without an adversary the forget pass runs on the model itself: shared storage, not a copy that would go stale.
        self.adversary = [w.clone() for w in self.base] if self.has_adversary else self.base
        self.retain_average = [torch.zeros_like(w) for w in self.base]
        self.forget_average = [torch.zeros_like(w) for w in self.base] if spec.forget_momentum else None
        self.original = [w.clone() for w in self.base] if spec.representation_loss else None
        self.unlearning_loss = UNLEARNING_LOSSES[spec.loss]
        self.zero_norms = torch.zeros((), dtype=torch.long, device=self.base[0].device)

    def step(self, forget: Tensor, retain: Tensor) -> tuple[Tensor, Tensor]:
        """One loop on token batches [batch, length]; returns cross-entropies (forget on the adversary, retain)."""
        spec = self.spec
        if self.has_adversary and self.loop % int(spec.fork_every) == 0:
            torch._foreach_copy_(self.adversary, self.base)  # 2: before the retain step, so loop 0 always forks
        self.loop += 1

        retain_loss = self._retain_step(retain)
        with self._weights_set_to(self.adversary):
            gradients, forget_loss = self._unlearning_gradients(forget)  # 6, 7, 8

        raw_norm = global_norm(gradients)  # 9: before momentum and mask
        self.zero_norms += raw_norm == 0
        if self.forget_average is not None:
            accumulate_(self.forget_average, gradients, spec.forget_momentum)  # 10
            torch._foreach_copy_(gradients, self.forget_average)
        if spec.mask == "sign":
            mask_disruption_(gradients, self.retain_average)  # 11
        if spec.growing_weights != 1:
            damp_growth_(gradients, self.base, spec.growing_weights)  # 12
        normalize_(gradients, spec.normalization, spec.rate_unit, raw_norm)  # 13
        torch._foreach_add_(self.base, gradients, alpha=-spec.unlearning_rate)  # 14
        if self.has_adversary and spec.adversary.update:
            torch._foreach_add_(self.adversary, gradients, alpha=-spec.adversary.update * spec.unlearning_rate)  # 15
        return forget_loss, retain_loss

    def _retain_step(self, retain: Tensor) -> Tensor:
        term = self.spec.representation_loss
        output = self.passes.forward(retain, hidden_states=term is not None)
        retain_loss = loss = cross_entropy(output.logits, retain)
        if term is not None:
            with torch.no_grad(), self._weights_set_to(self.original):
                original = self.passes.forward(retain, hidden_states=True)
            distance = representation_distance(output.hidden_states, original.hidden_states, term.squared)
            loss = loss + term.coefficient * distance
        gradients = self.passes.gradients(loss, self.weights)  # 3
        accumulate_(self.retain_average, gradients, self.spec.retain_momentum)  # 4
        torch._foreach_add_(self.base, self.retain_average, alpha=-self.spec.retaining_rate)  # 5
        return retain_loss.detach()

    def _unlearning_gradients(self, forget: Tensor) -> tuple[list[Tensor], Tensor]:
        """∇ of the unlearning loss, with the adversary trained on the way; see ``AdversarySpec.gradient``."""
        logits = self.passes.forward(forget).logits  # 6
        forget_loss = cross_entropy(logits, forget)

        if not self.has_adversary:
            gradients = self.passes.gradients(self.unlearning_loss(logits, forget), self.weights)

        elif self.spec.adversary.gradient == "hybrid":
            # The step changes weights that the kept graph still refers to: the second backward mixes old activations
            # with new weights. This is what the published code computes.
            self._train_adversary(self.passes.gradients(forget_loss, self.weights, keep_graph=True))
            gradients = self.passes.gradients(self.unlearning_loss(logits, forget), self.weights)

        elif self.spec.adversary.gradient == "fresh":
            self._train_adversary(self.passes.gradients(forget_loss, self.weights))
            logits = self.passes.forward(forget).logits
            gradients = self.passes.gradients(self.unlearning_loss(logits, forget), self.weights)

        elif self.spec.loss == "neg_cross_entropy":  # reuse: the two gradients differ in sign only
            gradients = self.passes.gradients(forget_loss, self.weights)
            self._train_adversary(gradients)
            torch._foreach_neg_(gradients)

        else:  # reuse: unlearning gradient first, then each adversary gradient is spent as soon as it is formed
            gradients = self.passes.gradients(self.unlearning_loss(logits, forget), self.weights, keep_graph=True)
            self.passes.consume_gradients(forget_loss, self.weights, self._train_adversary_weight)

        return gradients, forget_loss.detach()

    def _train_adversary(self, gradients: list[Tensor]) -> None:
        for index, gradient in enumerate(gradients):
            self._train_adversary_weight(index, gradient)

    def _train_adversary_weight(self, index: int, gradient: Tensor) -> None:
        """7: adversary ← adversary − rate · gradient, then decayed towards the model."""
        weight, decay = self.adversary[index], self.spec.adversary.decay
        weight.add_(gradient, alpha=-self.spec.adversary_rate)
        if decay != 1:
            weight.mul_(decay).add_(self.base[index], alpha=1 - decay)

    @contextmanager
    def _weights_set_to(self, tensors: list[Tensor]) -> Iterator[None]:
        """The model computes with ``tensors`` inside: data pointers are swapped, nothing is copied."""
        for weight, tensor in zip(self.weights, tensors, strict=True):
            weight.data = tensor
        try:
            yield
        finally:
            for weight, tensor in zip(self.weights, self.base, strict=True):
                weight.data = tensor
