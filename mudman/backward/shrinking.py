"""Only shrink activations."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mudman.backward.base import Tweak, targets
from mudman.specs.components import ShrinkActivations


class Shrinking(Tweak):
    """Output gradients that would grow a target module's |output| are multiplied by ``growing``.

    A descent step moves the output by −gradient: it grows where their signs differ. Weight gradient and what goes on
    towards the input both come from the changed gradient.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str], spec: ShrinkActivations):
        super().__init__()
        self.modules, self.growing = targets(model, parameters), spec.growing

    def attach(self, stack: ExitStack) -> None:
        for module in self.modules:
            stack.callback(module.register_forward_hook(self._watch).remove)

    def _watch(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        values = output.detach()
        self.change_gradient(output, lambda gradient: self._damped(gradient, values))

    def _damped(self, gradient: Tensor, output: Tensor) -> Tensor:
        grows = torch.sign(output) != torch.sign(gradient)
        return torch.where(grows, gradient * self.growing, gradient)
