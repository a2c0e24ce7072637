"""Which weights a method may change, and the parts of a transformer layer by their role."""

from dataclasses import dataclass
from operator import attrgetter

from torch import nn

from mudman.architectures import LINEAR, matches, suffixes, unknown, unmatched
from mudman.faults import SpecError

# The norm whose output the MLP reads. Gemma normalises a sublayer's output too, under the name others use for this.
_MLP_NORM = {"gemma3_text": "pre_feedforward_layernorm"}


@dataclass(frozen=True)
class LayerParts:
    """One transformer layer. Its residual stream enters and leaves ``layer``."""

    layer: nn.Module
    attention: nn.Module
    mlp: nn.Module
    mlp_norm: nn.Module
    """Norm in front of the MLP."""
    first_mlp: tuple[nn.Linear, ...]
    """Layers that read the MLP's input: gate and up projection, or the only one."""
    second_mlp: nn.Linear
    """Layer that writes the MLP's output."""


def layers(model: nn.Module) -> list[LayerParts]:
    """The layers of a GPT-NeoX, Llama, Qwen3 or Gemma3 text model, first to last.

    Raises ``SpecError`` at ``model.id`` for another architecture.
    """
    names = LINEAR.get(model.config.model_type)
    if names is None:
        raise SpecError.at("model.id", *unknown(_model_type(model), "its layers' parts are"))
    part = {role: attrgetter(name) for role, name in names.items()}
    norm = attrgetter(_MLP_NORM.get(model.config.model_type, "post_attention_layernorm"))
    attention = attrgetter(names["o"].split(".")[0])
    return [
        LayerParts(
            layer=layer,
            attention=attention(layer),
            mlp=layer.mlp,
            mlp_norm=norm(layer),
            first_mlp=tuple(part[role](layer) for role in ("gate", "up") if role in part),
            second_mlp=part["down"](layer),
        )
        for layer in model.base_model.layers
    ]


def matching_weights(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Weights of the modules named by ``targets``, by full parameter name, in the model's order.

    A target matches whole trailing parts of a module's dotted name: ``dense`` matches ``attention.dense`` and not
    ``mlp.dense_h_to_4h``; ``group:<name>`` stands for the modules of ``groups``. Biases are never included. Raises
    ``SpecError`` naming every target without a match.
    """
    found: dict[str, nn.Parameter] = {}
    meant = {target: suffixes(_model_type(model), target) for target in targets}
    missing = set(targets)
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    }
    for name, module in modules.items():
        for target in targets:
            if any(matches(name, suffix) for suffix in meant[target]):
                missing.discard(target)
                if not any(module.weight is weight for weight in found.values()):
                    found[f"{name}.weight"] = module.weight
    if missing:
        present = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if module.weight.ndim == 2})
        raise SpecError([unmatched(_model_type(model), target, present) for target in sorted(missing)])
    return found


def _model_type(model: nn.Module) -> str:
    return getattr(getattr(model, "config", None), "model_type", type(model).__name__)
