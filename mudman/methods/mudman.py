"""MUDMAN: meta-unlearning with Disruption Masking and normalisation (arXiv 2506.12484, Algorithm 1, Listing 1).

Step numbers are those of the published procedure (docs/method.md). Besides the model, the method holds three copies of
the intervened weights: adversary, accumulator, one gradient. One more each: forget momentum, the original (for the
representation loss, EWC, selective revert), EWC's importance, a mask with accumulators (two: compromise), a trace.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mudman.adversaries import adversary_of
from mudman.backward import tweaked
from mudman.components import (
    accumulate_,
    damp_growth_,
    global_norm,
    normalize_,
    pull_back_,
    revert_small_changes_,
    signed_power_,
)
from mudman.losses import cross_entropy, needs_hidden_states, representation_distance, unlearning_loss
from mudman.masks import mask_of
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs import MudmanSpec
from mudman.swap import swapped
from mudman.trace import Trace, agreeing, harmful


class Mudman(Unlearning):
    """State of one unlearning run. ``step`` is one loop; the model's own weights are those being unlearned."""

    STATE = (
        *("loop", "zero_norms", "adversary_state", "mask_state"),
        *("retain_average", "forget_average", "original", "importance"),
    )

    def __init__(self, model: nn.Module, spec: MudmanSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.adversary = adversary_of(spec, model, self.intervened, self.weights, self.base)
        self.retain_average = [torch.zeros_like(w) for w in self.base]
        self.forget_average = [torch.zeros_like(w) for w in self.base] if spec.forget_momentum else None
        self.importance = [torch.zeros_like(w) for w in self.base] if spec.ewc else None
        looks_back = spec.representation_loss or spec.ewc or spec.revert_below
        self.original = [w.clone() for w in self.base] if looks_back else None
        self.mask = mask_of(spec, model, self.intervened, self.base)
        self.tweak = tweaked(model, self.intervened, spec.backward)
        self.unlearning_loss = unlearning_loss(spec.loss)
        self.with_states = needs_hidden_states(spec.loss)

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop; the forget loss is the adversary's."""
        spec = self.spec
        self.adversary.renew(self.loop)  # 2: before the retain step
        self.loop += 1

        forget_batch, retain_batch = next(forget), next(retain)  # 1
        retain_loss = self._retain_step(retain_batch)
        if paused:
            return None, retain_loss
        with self.adversary.computing(), self.tweak:
            gradients, forget_loss = self._unlearning_gradients(forget_batch)  # 6, 7, 8

        raw_norm = global_norm(gradients)  # 9: before momentum and mask
        self.zero_norms += raw_norm == 0
        if self.forget_average is not None:
            self._average(gradients)  # 10
        with self._tracing_mask(gradients):
            self.mask.apply_(gradients, self.retain_average, self.loop - 1)  # 11
        if spec.growing_weights != 1:
            damp_growth_(gradients, self.base, spec.growing_weights)  # 12
        normalize_(gradients, spec.normalization, spec.rate_unit, raw_norm)  # 13
        torch._foreach_add_(self.base, gradients, alpha=-spec.unlearning_rate)  # 14
        self.adversary.follow(gradients, spec.unlearning_rate)  # 15
        if self.trace is not None:
            self.trace.record(forget_loss=forget_loss, gradient_norm=raw_norm)
            self.trace.record(update_norm=spec.unlearning_rate * global_norm(gradients))
            self.trace.record(harmful=harmful(gradients, self.retain_gradients))
        return forget_loss, retain_loss

    def finish(self) -> None:
        """Selective revert: weights that hardly changed are set back (appendix E)."""
        if self.spec.revert_below:
            revert_small_changes_(self.base, self.original, self.spec.revert_below)

    def _retain_step(self, retain: Tensor) -> Tensor:
        spec = self.spec
        with self.mask.watching():
            loss, retain_loss = self._retain_loss(retain)
            gradients = self.passes.gradients(loss, self.weights)  # 3
        self.mask.saw(gradients)
        if self.trace is not None:
            self.trace.record(retain_loss=retain_loss, retain_norm=global_norm(gradients))
            self.retain_gradients = [gradient.clone() for gradient in gradients]
        if spec.ewc is not None:
            pull_back_(gradients, self.importance, self.base, self.original, spec.ewc.strength, spec.ewc.decay)
        accumulate_(self.retain_average, gradients, spec.retain_momentum)  # 4
        torch._foreach_add_(self.base, self.retain_average, alpha=-spec.retaining_rate)  # 5
        return retain_loss

    def _retain_loss(self, retain: Tensor) -> tuple[Tensor, Tensor]:
        """What the retain step descends, and the detached cross-entropy in it."""
        term = self.spec.representation_loss
        output = self.passes.forward(retain, hidden_states=term is not None)
        loss = cross_entropy(output.logits, retain)
        if term is None:
            return loss, loss.detach()
        original = self.passes.original_states(retain, swapped(self.weights, self.original))
        distance = representation_distance(output.hidden_states, original, term.squared)
        return loss + term.coefficient * distance, loss.detach()

    def _average(self, gradients: list[Tensor]) -> None:
        """10: forget momentum; with weight consensus (appendix E), of the gradients' p-th roots."""
        power = self.spec.consensus_power
        if power != 1:
            signed_power_(gradients, 1 / power)
        accumulate_(self.forget_average, gradients, self.spec.forget_momentum)
        torch._foreach_copy_(gradients, self.forget_average)
        if power != 1:
            signed_power_(gradients, power)

    def _unlearning_gradients(self, forget: Tensor) -> tuple[list[Tensor], Tensor]:
        """∇ of the unlearning loss, with the adversary trained on the way; see ``AdversarySpec.gradient``."""
        adversary = self.adversary
        output = self.passes.forward(forget, self.with_states)  # 6
        forget_loss = cross_entropy(output.logits, forget)

        if self.spec.adversary.type == "none":
            gradients = self.passes.gradients(self.unlearning_loss(output, forget), self.weights)

        elif self.spec.adversary.gradient == "hybrid":
            # The step changes weights that the kept graph still refers to: the second backward mixes old activations
            # with new weights. This is what the published code computes.
            with self.tweak.off():
                adversary.train(self.passes.gradients(forget_loss, adversary.weights, keep_graph=True))
            gradients = self.passes.gradients(self.unlearning_loss(output, forget), self.weights)

        elif self.spec.adversary.gradient == "fresh":
            with self.tweak.off():
                adversary.train(self.passes.gradients(forget_loss, adversary.weights))
            output = self.passes.forward(forget, self.with_states)
            gradients = self.passes.gradients(self.unlearning_loss(output, forget), self.weights)

        elif adversary.weights is self.weights and self.spec.loss.type == "neg_cross_entropy":
            # reuse: the two gradients differ in sign only
            gradients = self.passes.gradients(forget_loss, self.weights)
            adversary.train(gradients)
            torch._foreach_neg_(gradients)

        else:  # reuse: unlearning gradient first, then each adversary gradient is spent as soon as it is formed
            gradients = self.passes.gradients(self.unlearning_loss(output, forget), self.weights, keep_graph=True)
            self.passes.consume_gradients(forget_loss, adversary.weights, adversary.train_weight)

        return gradients, forget_loss.detach()

    @contextmanager
    def _tracing_mask(self, gradients: list[Tensor]) -> Iterator[None]:
        if self.trace is None:
            yield
            return
        before = global_norm(gradients)
        self.trace.record(agreeing=agreeing(gradients, self.retain_average))
        yield
        self.trace.record(kept=global_norm(gradients) / before)

    @property
    def adversary_state(self) -> list[Tensor] | None:
        return self.adversary.state()

    @property
    def mask_state(self) -> list[Tensor] | None:
        return list(self.mask.state) or None
