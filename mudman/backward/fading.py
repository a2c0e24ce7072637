"""Fading backprop: what MLP and attention blocks send back to their inputs fades."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from mudman.backward.base import Tweak, known_layers
from mudman.specs.components import FadingBackprop


class Fading(Tweak):
    """The gradient that leaves a block towards its input is multiplied by ``factor``.

    The residual path beside the block is untouched, so that n blocks on the way to a weight count factor^n times.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str], spec: FadingBackprop):
        super().__init__()
        parts = known_layers(model)
        self.factor = spec.factor
        self.blocks = [part.mlp for part in parts if spec.mlp] + [part.attention for part in parts if spec.attention]

    def attach(self, stack: ExitStack) -> None:
        for block in self.blocks:
            stack.callback(block.register_forward_pre_hook(self._fade, with_kwargs=True).remove)

    def _fade(self, _block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (self._faded(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._faded(kwargs["hidden_states"])}

    def _faded(self, states: Tensor) -> Tensor:
        own = states.view_as(states)  # the block's alone: others may read the same tensor, and theirs shall not fade
        self.change_gradient(own, lambda gradient: gradient * self.factor)
        return own
