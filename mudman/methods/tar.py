"""TAR with its own nested loop (arXiv 2408.00761, Algorithm 1): tampering attack resistance.

Every outer loop simulates an attack: training on the forget set from the current model, at a rate drawn for the loop.
Along the attack, gradients of the unlearning loss are taken at the attacked weights and applied, first order, to the
model before the attack; AdamW steps on them together with a retain gradient that also keeps representations in place.
"""

import math
import random
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mudman.components import global_norm
from mudman.losses import cross_entropy, needs_hidden_states, representation_distance, unlearning_loss
from mudman.methods.base import Losses, Unlearning
from mudman.methods.random_mapping import mapping_loop
from mudman.passes import Passes
from mudman.specs.methods import TarSpec
from mudman.swap import swapped
from mudman.trace import Trace, agreeing, harmful

_SEED = 0x7A4
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """AdamW as it is without weight decay (arXiv 1412.6980), on a list of tensors, one at a time.

    Moments are float32 whatever the tensors are: in bfloat16 the second would not feel 0.1 % of a square.
    """

    def __init__(self, tensors: list[Tensor]):
        self.tensors = tensors
        self.first = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in tensors]
        self.second = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in tensors]

    def step(self, index: int, gradient: Tensor, rate: float, count: int) -> None:
        """Tensor ``index`` takes its ``count``-th step (from 1 on), in place; all-zero gradients move nothing."""
        gradient, first, second = gradient.float(), self.first[index], self.second[index]
        first.lerp_(gradient, 1 - _BETAS[0])
        second.lerp_(gradient.square(), 1 - _BETAS[1])
        size = (second / (1 - _BETAS[1] ** count)).sqrt_().add_(_EPSILON)
        self.tensors[index].sub_(first / size, alpha=rate / (1 - _BETAS[0] ** count))


class Tar(Unlearning):
    """Beside the model: the original, the attacked copy, gathered, retain and one more gradient, AdamW's two moments
    (twice, where the attack has AdamW too)."""

    STATE = ("loop", "outer_steps", "zero_norms", "original", "first_moment", "second_moment")

    def __init__(self, model: nn.Module, spec: TarSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.outer_steps = 0
        self.original = [weight.clone() for weight in self.base]
        self.adam = Adam(self.base)
        self.first_moment, self.second_moment = self.adam.first, self.adam.second
        self.unlearning_loss, self.with_states = unlearning_loss(spec.loss), needs_hidden_states(spec.loss)

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One outer loop; the forget loss is that of the attacked model at the end of the attack."""
        spec, loop = self.spec, self.loop
        self.loop += 1
        if spec.random_mapping is not None and loop < spec.random_mapping.loops:
            return self._map_randomly(forget, retain, paused)

        retaining, retain_loss = self._retain_gradient(next(retain))
        if self.trace is not None:
            self.trace.record(retain_loss=retain_loss, retain_norm=global_norm(retaining))
        if paused:
            torch._foreach_mul_(retaining, spec.retain_scale)
            self._outer_step(retaining)
            return None, retain_loss

        update, forget_loss = self._tamper_resistance(forget, adversary_rate(spec.adversary_rates, loop))
        norm = global_norm(update)
        self.zero_norms += norm == 0
        if self.trace is not None:
            share = agreeing(update, retaining)
            self.trace.record(forget_loss=forget_loss, gradient_norm=norm, agreeing=share, kept=torch.ones_like(norm))
            before = [weight.clone() for weight in self.base]
        torch._foreach_mul_(update, spec.tamper_scale)
        torch._foreach_add_(update, retaining, alpha=spec.retain_scale)
        self._outer_step(update)
        if self.trace is not None:  # of the common step, as AdamW has made it
            torch._foreach_sub_(before, self.base)
            self.trace.record(update_norm=global_norm(before), harmful=harmful(before, retaining))
        return forget_loss, retain_loss

    def _tamper_resistance(self, forget: Iterator[Tensor], rate: float) -> tuple[list[Tensor], Tensor]:
        """Weighted mean of the unlearning gradients along the attack, and the cross-entropy at its last one."""
        spec = self.spec
        weights = inner_weights(spec.inner_steps, spec.every, spec.weighting)
        attacked = [weight.clone() for weight in self.base]
        gathered = [torch.zeros_like(weight) for weight in self.base]

        adam = Adam(attacked) if spec.attack_optimizer == "adamw" else None

        def descend(index: int, gradient: Tensor) -> None:
            if adam is None:
                attacked[index].add_(gradient, alpha=-rate)
            else:
                adam.step(index, gradient, rate, inner)

        with swapped(self.weights, attacked):
            for inner in range(1, spec.inner_steps + 1):
                tokens = next(forget)
                loss = cross_entropy(self.passes.forward(tokens).logits, tokens)
                self.passes.consume_gradients(loss, self.weights, descend)
                if inner in weights:
                    tokens = next(forget)
                    output = self.passes.forward(tokens, self.with_states)
                    gradients = self.passes.gradients(self.unlearning_loss(output, tokens), self.weights)
                    torch._foreach_add_(gathered, gradients, alpha=weights[inner])
        return gathered, cross_entropy(output.logits.detach(), tokens)

    def _retain_gradient(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        output = self.passes.forward(tokens, hidden_states=True)
        original = self.passes.original_states(tokens, swapped(self.weights, self.original))
        loss = cross_entropy(output.logits, tokens)
        distance = representation_distance(output.hidden_states, original, self.spec.squared)
        return self.passes.gradients(loss + distance, self.weights), loss.detach()

    def _outer_step(self, gradients: list[Tensor]) -> None:
        """AdamW at the rate that a linear warm-up has reached."""
        self.outer_steps += 1
        rate = self.spec.unlearning_rate * min(1.0, self.outer_steps / max(1, self.spec.warm_up))
        for index, gradient in enumerate(gradients):
            self.adam.step(index, gradient, rate, self.outer_steps)

    def _map_randomly(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool) -> Losses:
        """As many random-mapping loops, of four passes, as this loop's booked passes hold; a trace has the last."""
        rates = (self.spec.random_mapping.rate,) * 2
        for _ in range(self.spec.passes_per_loop() // 4):
            tokens = None if paused else next(forget)
            losses, norm = mapping_loop(self.passes, self.weights, tokens, next(retain), rates, self.trace)
        if norm is not None:
            self.zero_norms += norm == 0
        return losses


def inner_weights(steps: int, every: int, weighting: float) -> dict[int, float]:
    """Inner steps after which a gradient is taken (every ``every``, and the last), with its share of the sum.

    Shares are in proportion to exp(``weighting`` · step) and add up to 1. (TAR's published code takes 1 for the
    last: there, at 64 steps, every 4, with 0.0625, they add up to 4.4.)
    """
    taken = sorted({*range(every, steps + 1, every), steps})
    sizes = [math.exp(weighting * (step - steps)) for step in taken]  # from the last: the first cannot overflow
    return {step: size / sum(sizes) for step, size in zip(taken, sizes, strict=True)}


def adversary_rate(rates: tuple[float, ...], loop: int) -> float:
    """The attack's learning rate in this loop: drawn uniformly, from the loop's own seed."""
    return random.Random(_SEED + loop).choice(rates)
