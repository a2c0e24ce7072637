"""A model computes with other tensors for a while: data pointers are swapped, nothing is copied."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def swapped(weights: Sequence[nn.Parameter], tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, ``weights`` have ``tensors`` for their values; afterwards their own again, whatever is raised."""
    own = [weight.data for weight in weights]
    try:
        for weight, tensor in zip(weights, tensors, strict=True):
            weight.data = tensor
        yield
    finally:
        for weight, tensor in zip(weights, own, strict=True):
            weight.data = tensor
