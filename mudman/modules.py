"""Which weights a method may change, and the parts of a transformer layer by their role."""

from dataclasses import dataclass
from operator import attrgetter

from torch import nn

from mudman.faults import FieldFault, SpecError

_GROUP = "group:"
_GATED = {
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
}
_NEOX = {
    "gate": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
    "qkv": "attention.query_key_value",
    "o": "attention.dense",
}
# By the model_type of transformers' configurations: the linear modules of a layer. GPT-NeoX keeps query, key and value
# in one matrix and has no second factor beside the first MLP layer.
_LINEAR = {"gpt_neox": _NEOX, "llama": _GATED, "qwen3": _GATED, "gemma3_text": _GATED}
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
    names = _LINEAR.get(model.config.model_type)
    if names is None:
        raise SpecError.at("model.id", *_unknown_architecture(model, "its layers' parts are"))
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


def groups(model_type: str) -> dict[str, tuple[str, ...]]:
    """Module names by group: ``first_mlp`` and ``gate`` (the same), ``up``, ``down``, ``q``, ``k``, ``v``, ``o``,
    ``qkv``, ``all_linear``, as far as the architecture has them; empty for an architecture that is not known."""
    names = _LINEAR.get(model_type)
    if names is None:
        return {}
    found = {"first_mlp": (names["gate"],), **{role: (name,) for role, name in names.items()}}
    if "qkv" not in found:
        found["qkv"] = (names["q"], names["k"], names["v"])
    return {**found, "all_linear": tuple(names.values())}


def matching_weights(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Weights of the modules named by ``targets``, by full parameter name, in the model's order.

    A target matches whole trailing parts of a module's dotted name: ``dense`` matches ``attention.dense`` and not
    ``mlp.dense_h_to_4h``; ``group:<name>`` stands for the modules of ``groups``. Biases are never included. Raises
    ``SpecError`` naming every target without a match.
    """
    found: dict[str, nn.Parameter] = {}
    suffixes = {target: _suffixes(model, target) for target in targets}
    missing = set(targets)
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    }
    for name, module in modules.items():
        for target in targets:
            if any(f".{name}".endswith(f".{suffix}") for suffix in suffixes[target]):
                missing.discard(target)
                if not any(module.weight is weight for weight in found.values()):
                    found[f"{name}.weight"] = module.weight
    if missing:
        present = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if module.weight.ndim == 2})
        raise SpecError([_unmatched(model, target, present) for target in sorted(missing)])
    return found


def _suffixes(model: nn.Module, target: str) -> tuple[str, ...]:
    if not target.startswith(_GROUP):
        return (target,)
    return groups(_model_type(model)).get(target.removeprefix(_GROUP), ())


def _unmatched(model: nn.Module, target: str, present: list[str]) -> FieldFault:
    field = "method.target_modules"
    if not target.startswith(_GROUP):
        remedy = f"take from its modules with a weight matrix: {', '.join(present)}"
        return FieldFault(field, f"no module of this model is named {target!r}", remedy)
    known = groups(_model_type(model))
    if not known:
        return FieldFault(field, *_unknown_architecture(model, f"{target!r} is", f"; it has {', '.join(present)}"))
    remedy = f"its groups are {', '.join(known)}"
    return FieldFault(field, f"architecture {_model_type(model)} has no {target!r}", remedy)


def _model_type(model: nn.Module) -> str:
    return getattr(getattr(model, "config", None), "model_type", type(model).__name__)


def _unknown_architecture(model: nn.Module, what: str, present: str = "") -> tuple[str, str]:
    """Message and remedy."""
    return (
        f"{what} not known for architecture {_model_type(model)}",
        f"take a model of {', '.join(_LINEAR)}, or name modules by suffix{present}",
    )
