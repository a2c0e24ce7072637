"""Which modules of a layer are called what, by architecture. Names alone: no torch."""

from mudman.faults import FieldFault

GROUP = "group:"
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
LINEAR = {"gpt_neox": _NEOX, "llama": _GATED, "qwen3": _GATED, "gemma3_text": _GATED}


def groups(model_type: str) -> dict[str, tuple[str, ...]]:
    """Module names by group: ``first_mlp`` and ``gate`` (the same), ``up``, ``down``, ``q``, ``k``, ``v``, ``o``,
    ``qkv``, ``all_linear``, as far as the architecture has them; empty for an architecture that is not known."""
    names = LINEAR.get(model_type)
    if names is None:
        return {}
    found = {"first_mlp": (names["gate"],), **{role: (name,) for role, name in names.items()}}
    if "qkv" not in found:
        found["qkv"] = (names["q"], names["k"], names["v"])
    return {**found, "all_linear": tuple(names.values())}


def suffixes(model_type: str, target: str) -> tuple[str, ...]:
    """Whole trailing parts of module names that a target means; ``group:<name>`` stands for several, or for none where
    the architecture has no such group."""
    if not target.startswith(GROUP):
        return (target,)
    return groups(model_type).get(target.removeprefix(GROUP), ())


def matches(name: str, suffix: str) -> bool:
    """Whether a module's dotted name ends in these parts."""
    return f".{name}".endswith(f".{suffix}")


def unmatched(model_type: str, target: str, present: list[str]) -> FieldFault:
    """That no module is meant by a target, and what there is: names of modules with a weight matrix."""
    field = "method.target_modules"
    if not target.startswith(GROUP):
        remedy = f"take from its modules with a weight matrix: {', '.join(present)}"
        return FieldFault(field, f"no module of this model is named {target!r}", remedy)
    known = groups(model_type)
    if not known:
        return FieldFault(field, *unknown(model_type, f"{target!r} is", f"; it has {', '.join(present)}"))
    remedy = f"its groups are {', '.join(known)}"
    return FieldFault(field, f"architecture {model_type} has no {target!r}", remedy)


def unknown(model_type: str, what: str, present: str = "") -> tuple[str, str]:
    """Message and remedy."""
    return (
        f"{what} not known for architecture {model_type}",
        f"take a model of {', '.join(LINEAR)}, or name modules by suffix{present}",
    )
