"""Neuron ablation by importance (arXiv 2506.12484, appendix E)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mudman.activations import watched
from mudman.faults import SpecError
from mudman.losses import cross_entropy
from mudman.methods.base import Losses, Unlearning
from mudman.modules import layers
from mudman.passes import Passes
from mudman.specs.methods import NeuronAblationSpec
from mudman.trace import Trace


class NeuronAblation(Unlearning):
    """Scales the neurons whose mean squared activation on the forget set most exceeds that on the retain set.

    Neurons are the inputs of second MLP layers; those of all target layers are ranked together. The loops only look:
    ``finish`` scales the neurons' columns. A neuron that is silent on both sets has ratio 0. Two passes a loop.
    """

    STATE = ("loop", "forget_squares", "retain_squares")

    def __init__(self, model: nn.Module, spec: NeuronAblationSpec, passes: Passes, trace: Trace | None = None):
        """Raises ``SpecError`` for a target that is no second MLP layer, or an architecture that is not known."""
        super().__init__(model, spec, passes, trace)
        second = {id(part.second_mlp) for part in layers(model)}
        self.modules = [model.get_submodule(name.removesuffix(".weight")) for name in self.intervened]
        for name, module in zip(self.intervened, self.modules, strict=True):
            if id(module) not in second:
                raise SpecError.at(
                    "method.target_modules",
                    f"{name.removesuffix('.weight')} is no second MLP layer, whose inputs are the neurons",
                    "take group:down",
                )
        self.forget_squares = [w.new_zeros(w.shape[1], dtype=torch.float32) for w in self.base]
        """Per loop and neuron, Σ of the mean squared activation."""
        self.retain_squares = [squares.clone() for squares in self.forget_squares]

    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop looks at one batch of each set."""
        self.loop += 1
        losses = self._look(next(forget), self.forget_squares), self._look(next(retain), self.retain_squares)
        if self.trace is not None:
            self.trace.record(forget_loss=losses[0], retain_loss=losses[1])
        return losses

    def _look(self, tokens: Tensor, squares: list[Tensor]) -> Tensor:
        def add(index: int, x: Tensor, _output: Tensor) -> None:
            squares[index] += x.flatten(0, -2).float().square().mean(0)

        with torch.no_grad(), watched(self.modules, add):
            return cross_entropy(self.passes.forward(tokens).logits, tokens)

    def finish(self) -> None:
        """Scales the columns of the neurons with the highest ratios."""
        forget, retain = torch.cat(self.forget_squares), torch.cat(self.retain_squares)
        ratio = torch.where(forget > 0, forget / retain, 0)  # infinite where the retain set leaves the neuron silent
        count = round(self.spec.share * len(ratio))
        chosen = torch.zeros_like(ratio, dtype=torch.bool).index_fill_(0, ratio.topk(count).indices, True)
        for weight, columns in zip(self.base, chosen.split([w.shape[1] for w in self.base]), strict=True):
            weight.mul_(torch.where(columns, self.spec.factor, 1.0).to(weight.dtype))
