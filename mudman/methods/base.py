"""What the engine asks of every method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mudman.modules import matching_weights
from mudman.passes import Passes
from mudman.specs.methods import Intervening
from mudman.trace import Trace

Losses = tuple[Tensor | None, Tensor | None]
"""Cross-entropies of a loop's forget and retain batch, detached; None where the loop had no such batch."""


class Unlearning(ABC):
    """State of one unlearning run on the weights of some modules.

    ``step`` is one loop. It makes its passes through ``passes``, which may raise to end the run: the model then has
    its own weights, as after any whole step. A method never logs, evaluates, prunes, saves, seeds or picks a device.
    """

    STATE: ClassVar[tuple[str, ...]] = ("loop",)
    """Attributes that a run continues from: counters, tensors, lists of tensors."""

    def __init__(self, model: nn.Module, spec: Intervening, passes: Passes, trace: Trace | None = None):
        matched = matching_weights(model, spec.target_modules)
        self.model, self.spec, self.passes, self.trace = model, spec, passes, trace
        self.loop = 0
        self.intervened = tuple(matched)
        """Names of the parameters that the run changes."""
        self.weights = list(matched.values())
        """These parameters."""
        self.base = [weight.data for weight in self.weights]
        """Their values: the model being unlearned."""
        self.zero_norms = torch.zeros((), dtype=torch.long, device=self.base[0].device)
        """Loops whose unlearning gradient vanished."""

    @abstractmethod
    def step(self, forget: Iterator[Tensor], retain: Iterator[Tensor], paused: bool = False) -> Losses:
        """One loop on the next token batches [batch, length]. ``paused``: retaining alone goes on."""

    def finish(self) -> None:  # noqa: B027 - most methods have nothing left to do
        """After the last loop, before the model is measured."""

    def state(self) -> dict[str, Any]:
        """What a run can be continued from, beside the model's weights: tensors by name."""
        return {name: _copied(value) for name in self.STATE if (value := getattr(self, name)) is not None}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``; tensors are written in place."""
        for name, saved in state.items():
            mine = getattr(self, name)
            if isinstance(mine, Tensor):
                mine.copy_(saved)
            elif isinstance(mine, list):
                torch._foreach_copy_(mine, saved)
            else:
                setattr(self, name, saved)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return [tensor.clone() for tensor in value] if isinstance(value, list) else value
