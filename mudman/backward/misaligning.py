"""Misaligning second MLP layers."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mudman.backward.base import Tweak, known_layers, no_target, targets
from mudman.backward.outer_product import replace_input
from mudman.specs.components import MisalignSecondLayers


class Misaligning(Tweak):
    """The weight gradient of second MLP layers is Σ over tokens of g_out ⊗ g_in / ‖g_out‖, with g_in = Wᵀ g_out.

    A step against it takes the weight out of line with the gradient: to first order g_in shrinks by the factor
    1 − rate · ‖g_out‖. Without the norm it would depend on the gradient's square. ``positive_only``: where the
    unlearning loss rises with a neuron (g_in > 0) that is not negative. (The published code took gradients of the
    cross-entropy, whose sign is the opposite of that of ``neg_cross_entropy``; it matters for these signs alone.)
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str], spec: MisalignSecondLayers):
        super().__init__()
        wanted = targets(model, parameters)
        self.layers = [part.second_mlp for part in known_layers(model) if part.second_mlp in wanted]
        self.positive_only = spec.positive_only
        if not self.layers:
            raise no_target("second MLP layers", "group:down")

    def attach(self, stack: ExitStack) -> None:
        replace_input(stack, [(layer, self._aligned) for layer in self.layers])

    def _aligned(self, x: Tensor, g_out: Tensor, g_in: Tensor) -> Tensor:
        if not self.on:
            return x
        norm = torch.linalg.vector_norm(g_out, dim=-1, keepdim=True, dtype=torch.float32)
        aligned = torch.where(norm > 0, g_in / norm, 0).to(g_in.dtype)
        return torch.where(x < 0, 0, aligned.clamp(min=0)) if self.positive_only else aligned
