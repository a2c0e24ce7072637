"""Linear layers whose factors are rounded to a lower type once, for the forward and both products of the backward.

By itself each product rounds its own two factors: inputs and output gradients would be rounded twice, and what is kept
for the backward would be twice as large.
"""

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """x [..., in] by weight [out, in], both rounded to ``dtype``; bias is added to the output in the type of ``x``.

    Second derivatives can be taken.
    """
    y = _Product.apply(x.flatten(0, -2).to(dtype), weight).to(x.dtype)
    if bias is not None:
        y += bias
    return y.unflatten(0, x.shape[:-1])


class _Product(torch.autograd.Function):
    """The weight is kept as it is and rounded again in the backward: one that was changed in between counts as changed
    (the published gradient is made so, ``AdversarySpec.gradient``)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.to(x.dtype).t()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        want_x, want_weight = ctx.needs_input_grad
        return (
            gradient @ weight.to(x.dtype) if want_x else None,
            (gradient.t() @ x).to(weight.dtype) if want_weight else None,  # as the weight lies
        )
