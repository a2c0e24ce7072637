"""What the original model makes of a batch, kept from one trial to the next: it does not change.

Methods that hold representations in place, or turn them away, compare with the original's in every loop, one forward
more for each. The trials of a study see the same batches.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from mudman.sizes import STATES


class OriginalStates:
    """Hidden states of one model by batch, until ``limit`` bytes are taken: what came first stays, for every trial
    begins with it again."""

    def __init__(self, limit: int = STATES):
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        self._free, self._kept = self._limit, {}

    def of(self, tokens: Tensor, form: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Hidden states [batch, length, width] of all layers for ``tokens`` [batch, length]. ``form``
        runs the model, and is asked where they are not known."""
        key = hashlib.sha256(tokens.cpu().numpy().tobytes()).digest(), tokens.shape
        if key in self._kept:
            return self._kept[key]
        before = _random(tokens.device)
        states = form()
        size = sum(layer.nbytes for layer in states)
        if size <= self._free and torch.equal(before, _random(tokens.device)):  # with dropout no two are alike
            self._kept[key], self._free = states, self._free - size
        return states


def _random(device: torch.device) -> Tensor:
    """State of the numbers drawn there."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
