"""Low-rank adapters on linear layers (arXiv 2106.09685): out += dropout(x) Aᵀ Bᵀ · alpha / rank.

An adapter is a submodule of the layer that it adapts and works by a forward hook: the layer's ``weight`` and every
module name stay what they are, so that base weights can be trained, swapped and saved as if nothing were there.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mudman.faults import SpecError
from mudman.specs.components import LoraSpec


class Adapter(nn.Module):
    """What one linear layer gets: A [rank, in] and B [out, rank], in the dtype and on the device of its weight."""

    def __init__(self, layer: nn.Linear, spec: LoraSpec):
        super().__init__()
        self.a = nn.Parameter(layer.weight.new_empty(spec.rank, layer.in_features))
        self.b = nn.Parameter(layer.weight.new_zeros(layer.out_features, spec.rank))
        self.scale, self.dropout, self.on = spec.alpha / spec.rank, spec.dropout, True

    @torch.no_grad()
    def renew(self, generator: torch.Generator) -> None:
        """As at birth: B zero, A uniform between ±1/√in (Kaiming, a = √5); drawn on the CPU, alike on all devices."""
        drawn = torch.rand(self.a.shape, generator=generator)
        self.a.data.copy_((2 * drawn - 1) / math.sqrt(self.a.shape[1]))
        self.b.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(F.dropout(x, self.dropout, self.training), self.a), self.b) * self.scale

    def add(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The layer's forward hook."""
        return output + self(inputs[0]) if self.on else output


class Adapters:
    """One adapter for each of some layers of a model; several such sets can be attached at once."""

    def __init__(self, model: nn.Module, modules: Iterable[str], spec: LoraSpec, seed: int, path: str = "lora"):
        """Not attached yet. ``modules``: full dotted names of linear layers; ``path``: where a SpecError points to.

        Raises ``SpecError`` for a module that is no ``nn.Linear`` (GPT-2's Conv1D, an embedding).
        """
        self.layers = {name: model.get_submodule(name) for name in modules}
        if wrong := [name for name, layer in self.layers.items() if not isinstance(layer, nn.Linear)]:
            kind = type(self.layers[wrong[0]]).__name__
            message = f"adapters fit linear layers, and {wrong[0]} is of type {kind}"
            raise SpecError.at(path, message, "name linear layers only, or train the weights themselves")
        self.adapters = [Adapter(layer, spec) for layer in self.layers.values()]
        self.parameters = [parameter for adapter in self.adapters for parameter in adapter.parameters()]
        """A and B of each layer in turn."""
        self.renew(seed)

    def renew(self, seed: int) -> None:
        """As at birth, in place: the adapters add nothing yet."""
        generator = torch.Generator().manual_seed(seed)
        for adapter in self.adapters:
            adapter.renew(generator)

    def attach(self) -> "Adapters":
        """The model computes with the adapters, and lists their parameters."""
        for layer, adapter in zip(self.layers.values(), self.adapters, strict=True):
            layer.add_module(_free_name(layer), adapter)
            layer.register_forward_hook(adapter.add)
        return self

    def detach(self) -> None:
        """The model is what it was before ``attach``."""
        for layer, adapter in zip(self.layers.values(), self.adapters, strict=True):
            _remove(layer, adapter)

    def merge(self) -> None:
        """Folds the adapters into the weights, in place, and detaches them."""
        for layer, adapter in zip(self.layers.values(), self.adapters, strict=True):
            layer.weight.data.addmm_(adapter.b.data, adapter.a.data, alpha=adapter.scale)
        self.detach()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attached inside, gone afterwards, whatever is raised."""
        self.attach()
        try:
            yield
        finally:
            self.detach()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the model computes without these adapters; they stay attached."""
        before = [adapter.on for adapter in self.adapters]
        self.switch(False)
        try:
            yield
        finally:
            for adapter, on in zip(self.adapters, before, strict=True):
                adapter.on = on

    def switch(self, on: bool) -> None:
        for adapter in self.adapters:
            adapter.on = on


def attach(model: nn.Module, modules: Iterable[str], spec: LoraSpec, seed: int, path: str = "lora") -> Adapters:
    """Adds new adapters to the named linear layers; see ``Adapters``. Raises ``SpecError`` at ``path``."""
    return Adapters(model, modules, spec, seed, path).attach()


@torch.no_grad()
def folded(model: nn.Module) -> dict[str, Tensor]:
    """The model's state with every attached adapter folded into its layer's weight, under the names of the model
    without adapters. The model itself is left as it is."""
    state = model.state_dict()
    for name, layer in model.named_modules():
        for own, adapter in [(own, child) for own, child in layer.named_children() if isinstance(child, Adapter)]:
            weight = f"{name}.weight"
            state[weight] = state[weight].clone().addmm_(adapter.b, adapter.a, alpha=adapter.scale)  # in full precision
            for part in adapter.state_dict():
                del state[f"{name}.{own}.{part}"]
    return state


def detach_all(model: nn.Module) -> None:
    """Removes every adapter that is attached anywhere in the model."""
    for layer in list(model.modules()):
        for adapter in [child for child in layer.children() if isinstance(child, Adapter)]:
            _remove(layer, adapter)


def _free_name(layer: nn.Module) -> str:
    return next(name for i in range(len(layer._modules) + 1) if (name := f"lora_{i}") not in layer._modules)


def _remove(layer: nn.Module, adapter: Adapter) -> None:
    for name in [name for name, child in layer.named_children() if child is adapter]:
        delattr(layer, name)
    for key in [key for key, hook in layer._forward_hooks.items() if getattr(hook, "__self__", None) is adapter]:
        del layer._forward_hooks[key]
