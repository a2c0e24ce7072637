"""Tweaking first MLP layers, so that less gradient reaches earlier layers."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mudman.backward.base import Tweak, known_layers, no_target, targets
from mudman.backward.outer_product import replace_input
from mudman.modules import LayerParts
from mudman.specs.components import TweakFirstLayers


class FirstLayers(Tweak):
    """The weight gradient of first MLP layers is ∂/∂W of ½ Σ over tokens ‖g‖², with g a gradient upstream of them.

    With g_out the layer's output gradient (held fixed), g_in = Wᵀ g_out and J the Jacobian of the norm in front of the
    MLP (x = norm(h)), descending it dampens, by ``place``,

    * ``module``: g = g_in, just upstream of the layer. Weight gradient Σ g_out ⊗ g_in.
    * ``before_norm``: g = Jᵀ g_in. Weight gradient Σ g_out ⊗ J Jᵀ g_in.
    * ``residual``: g = r + Jᵀ g_in, r the gradient on the residual stream that leaves the transformer layer.
      Weight gradient Σ g_out ⊗ J (r + Jᵀ g_in).

    A gated MLP has two first layers: each counts what it sends itself. The published code has the first place as
    here; for the third it scales with the elementwise ratio of the norm's gradients in place of J, on GPT-NeoX only.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[str], spec: TweakFirstLayers):
        super().__init__()
        wanted = targets(model, parameters)
        self.places = [
            _PLACES[spec.place](part, [layer for layer in part.first_mlp if layer in wanted], self)
            for part in known_layers(model)
        ]
        if not any(place.layers for place in self.places):
            raise no_target("first MLP layers", "group:first_mlp")

    def attach(self, stack: ExitStack) -> None:
        for place in self.places:
            if place.layers:
                place.attach(stack)


class _Module:
    """The first MLP layers of one transformer layer, and the place where their gradients are to be dampened."""

    def __init__(self, parts: LayerParts, layers: list[nn.Linear], tweak: Tweak):
        self.parts, self.layers, self.tweak = parts, layers, tweak

    def attach(self, stack: ExitStack) -> None:
        replace_input(stack, [(layer, self._factor) for layer in self.layers])

    def _factor(self, x: Tensor, g_out: Tensor, g_in: Tensor) -> Tensor:
        return self.dampened(g_in) if self.tweak.on else x

    def dampened(self, g_in: Tensor) -> Tensor:
        return g_in


class _BeforeNorm(_Module):
    def attach(self, stack: ExitStack) -> None:
        super().attach(stack)
        stack.callback(self.__dict__.pop, "norm_input", None)
        stack.callback(self.parts.mlp_norm.register_forward_pre_hook(self._keep_input).remove)

    def _keep_input(self, _norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.norm_input = args[0].detach()

    def dampened(self, g_in: Tensor) -> Tensor:
        norm = self.parts.mlp_norm.forward
        _, pull_back = torch.func.vjp(norm, self.norm_input)
        gradient = self.at_norm_input(pull_back(g_in)[0])
        return torch.func.jvp(norm, (self.norm_input,), (gradient,))[1]

    def at_norm_input(self, gradient: Tensor) -> Tensor:
        return gradient


class _Residual(_BeforeNorm):
    def attach(self, stack: ExitStack) -> None:
        super().attach(stack)
        stack.callback(self.__dict__.pop, "leaving", None)
        stack.callback(self.parts.layer.register_forward_hook(self._watch).remove)

    def _watch(self, _layer: nn.Module, _args: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        stream = output[0] if isinstance(output, tuple) else output
        self.tweak.change_gradient(stream, self._keep_leaving)

    def _keep_leaving(self, gradient: Tensor) -> Tensor:
        self.leaving = gradient
        return gradient

    def at_norm_input(self, gradient: Tensor) -> Tensor:
        return self.leaving + gradient


_PLACES: dict[str, type[_Module]] = {"module": _Module, "before_norm": _BeforeNorm, "residual": _Residual}
