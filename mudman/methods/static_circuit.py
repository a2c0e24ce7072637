"""Locate the circuit once: one direction, found on the original model, is all that is ever unlearned.

Source: arXiv 2506.12484, appendix E. With the loss ``stream_activation`` it is the paper's stream deactivation.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mudman.components import accumulate_, global_norm, mask_disruption_, scale_to
from mudman.losses import cross_entropy, needs_hidden_states, unlearning_loss
from mudman.methods.base import Losses, Unlearning
from mudman.passes import Passes
from mudman.specs.methods import StaticCircuitSpec
from mudman.trace import Trace, agreeing, harmful


class StaticCircuit(Unlearning):
    """Loops that locate leave the model as it is; all others apply the circuit. Two passes a loop.

    A circuit is the sum of a loss's gradients over forget batches, rescaled to norm sqrt(number of entries). While
    locating, loop i serves circuit i modulo their number; one float32 copy of the weights for each is held, later one
    in the model's own type, beside the retain accumulator and one gradient.
    """

    STATE = ("loop", "zero_norms", "circuits", "retain_average")

    def __init__(self, model: nn.Module, spec: StaticCircuitSpec, passes: Passes, trace: Trace | None = None):
        super().__init__(model, spec, passes, trace)
        self.circuits = [torch.zeros_like(w, dtype=torch.float32) for _ in spec.circuits for w in self.base]
        """The circuits' sums one after the other; when all is located, the mix of them alone."""
        self.retain_average = [torch.zeros_like(w) for w in self.base]

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop: on a forget batch while locating, afterwards on a retain batch."""
        self.loop += 1
        if self.loop <= self.spec.locate_loops:
            losses = self._locate(next(forget)), None
            if self.loop == self.spec.locate_loops:
                self.circuits = self._mixed()
            return losses
        return None, self._apply(next(retain), paused)

    def _locate(self, tokens: Tensor) -> Tensor:
        turn = (self.loop - 1) % len(self.spec.circuits)
        loss = self.spec.circuits[turn].loss
        output = self.passes.forward(tokens, needs_hidden_states(loss))
        forget_loss = cross_entropy(output.logits, tokens).detach()
        gradients = self.passes.gradients(unlearning_loss(loss)(output, tokens), self.weights)
        torch._foreach_add_(self._circuit(turn), gradients)
        if self.trace is not None:
            self.trace.record(forget_loss=forget_loss, gradient_norm=global_norm(gradients))
        return forget_loss

    def _apply(self, tokens: Tensor, paused: bool) -> Tensor:
        spec = self.spec
        loss = cross_entropy(self.passes.forward(tokens).logits, tokens)
        retaining = self.passes.gradients(loss, self.weights)
        accumulate_(self.retain_average, retaining, spec.retain_momentum)
        torch._foreach_add_(self.base, self.retain_average, alpha=-spec.retaining_rate)
        if paused:
            return loss.detach()
        update = [circuit.clone() for circuit in self.circuits]
        norm = global_norm(update)
        self.zero_norms += norm == 0
        if spec.mask.type == "sign":
            mask_disruption_(update, self.retain_average)
        torch._foreach_add_(self.base, update, alpha=-spec.unlearning_rate)
        if self.trace is not None:
            left = global_norm(update)
            self.trace.record(
                retain_loss=loss,
                gradient_norm=norm,
                retain_norm=global_norm(retaining),
                update_norm=left * spec.unlearning_rate,
                agreeing=agreeing(self.circuits, self.retain_average),
                kept=scale_to(1, norm) * left,
                harmful=harmful(update, retaining),
            )
        return loss.detach()

    def _mixed(self) -> list[Tensor]:
        """Σ strength · circuit, each of norm sqrt(number of entries), in the model's type."""
        size = sum(w.numel() for w in self.base) ** 0.5
        for turn, source in enumerate(self.spec.circuits):
            circuit = self._circuit(turn)
            torch._foreach_mul_(circuit, source.strength * scale_to(size, global_norm(circuit)))
        mixed = self._circuit(0)
        for turn in range(1, len(self.spec.circuits)):
            torch._foreach_add_(mixed, self._circuit(turn))
        return [circuit.to(w.dtype) for circuit, w in zip(mixed, self.base, strict=True)]

    def _circuit(self, turn: int) -> list[Tensor]:
        count = len(self.base)
        return self.circuits[turn * count : (turn + 1) * count]

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, whether the circuit is located there or not."""
        if state["loop"] >= self.spec.locate_loops:
            self.circuits = [torch.empty_like(w) for w in self.base]
        super().load(state)
