"""Linear layers whose weight gradient is another outer product than that of output gradient and input."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Factor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(input, output gradient, input gradient) → what stands in for the input; shapes [..., in], [..., out], [..., in]."""


class _Linear(torch.autograd.Function):
    """x Wᵀ + b. Backward: plain, except that the weight gradient is Σ over tokens of g_out ⊗ factor(x, g_out, g_in)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.factor = factor
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out: Tensor):
        x, weight = ctx.saved_tensors
        g_in = g_out @ weight
        tokens = g_out.flatten(0, -2)
        g_weight = tokens.mT @ ctx.factor(x, g_out, g_in).flatten(0, -2) if ctx.needs_input_grad[1] else None
        return g_in, g_weight, tokens.sum(0) if ctx.needs_input_grad[2] else None, None


def replace_input(stack: ExitStack, layers: Iterable[tuple[nn.Linear, Factor]]) -> None:
    """Until ``stack`` closes, each layer's weight gradient has ``factor`` in place of the input.

    The layer's ``forward`` is shadowed: it reads the weight anew at each call, and hooks on the layer stay at work.
    """
    for layer, factor in layers:
        layer.forward = partial(_forward, layer, factor)
        stack.callback(delattr, layer, "forward")


def _forward(layer: nn.Linear, factor: Factor, x: Tensor) -> Tensor:
    return _Linear.apply(x, layer.weight, layer.bias, factor)
