"""Module groups of the four architectures: which weights they name, how many, and the parts of a layer by role."""

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mudman.faults import SpecError
from mudman.modules import layers, matching_weights

# Hidden 16, MLP 40; two query heads and one key-value head of 8: q and o are 16 x 16, k and v are 8 x 16.
SHAPE = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 1, "head_dim": 8}


def model(architecture: str) -> torch.nn.Module:
    match architecture:
        case "neox":
            return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE))
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**GROUPED))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**GROUPED))
        case "gemma3":
            return Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED))


def numbered(prefix: str, *names: str) -> list[str]:
    return [f"{prefix}.{layer}.{name}.weight" for layer in range(2) for name in names]


Q, K, V, OUT = (f"self_attn.{name}_proj" for name in "qkvo")
GATE, UP, DOWN = (f"mlp.{name}_proj" for name in ("gate", "up", "down"))
GATED = {
    # group -> modules of a layer in the model's order, scalars of a layer
    "first_mlp": ([GATE], 40 * 16),
    "gate": ([GATE], 40 * 16),
    "up": ([UP], 40 * 16),
    "down": ([DOWN], 16 * 40),
    "q": ([Q], 16 * 16),
    "k": ([K], 8 * 16),
    "v": ([V], 8 * 16),
    "o": ([OUT], 16 * 16),
    "qkv": ([Q, K, V], 32 * 16),
    "all_linear": ([Q, K, V, OUT, GATE, UP, DOWN], 48 * 16 + 3 * 40 * 16),
}
QKV, DENSE, FIRST, SECOND = "attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"
NEOX = {
    "first_mlp": ([FIRST], 40 * 16),
    "gate": ([FIRST], 40 * 16),
    "down": ([SECOND], 16 * 40),
    "qkv": ([QKV], 48 * 16),
    "o": ([DENSE], 16 * 16),
    "all_linear": ([QKV, DENSE, FIRST, SECOND], 48 * 16 + 16 * 16 + 2 * 40 * 16),
}
CASES = [("neox", "gpt_neox.layers", group, *expected) for group, expected in NEOX.items()] + [
    (architecture, "model.layers", group, *expected)
    for architecture in ("llama", "qwen3", "gemma3")
    for group, expected in GATED.items()
]


@pytest.mark.parametrize(("architecture", "prefix", "group", "names", "scalars"), CASES)
def test_a_group_matches_exactly_its_weights(architecture, prefix, group, names, scalars):
    matched = matching_weights(model(architecture), (f"group:{group}",))
    assert list(matched) == numbered(prefix, *names)
    assert sum(weight.numel() for weight in matched.values()) == 2 * scalars


def test_groups_and_suffixes_add_up_without_doubles():
    mixed = matching_weights(model("llama"), ("group:qkv", "q_proj", "self_attn.o_proj", "group:gate"))
    assert list(mixed) == numbered("model.layers", Q, K, V, OUT, GATE)


@pytest.mark.parametrize(
    ("architecture", "group"),
    [("neox", "q"), ("neox", "k"), ("neox", "v"), ("neox", "up"), ("llama", "gates"), ("qwen3", ""), ("gemma3", "mlp")],
)
def test_a_group_that_is_not_there_is_answered_with_those_that_are(architecture, group):
    with pytest.raises(SpecError) as caught:
        matching_weights(model(architecture), ("group:down", f"group:{group}"))
    (fault,) = caught.value.faults
    assert fault.path == "method.target_modules"
    assert f"has no 'group:{group}'" in fault.message
    there = NEOX if architecture == "neox" else GATED
    assert sorted(fault.remedy.removeprefix("its groups are ").split(", ")) == sorted(there)


def test_another_architecture_has_no_groups_but_suffixes():
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=1)
    )
    with pytest.raises(SpecError, match=r"'group:gate' is not known for architecture gpt2.*name modules by suffix"):
        matching_weights(gpt2, ("group:gate",))
    with pytest.raises(SpecError, match="not known for architecture gpt2") as caught:
        layers(gpt2)
    assert caught.value.faults[0].path == "model.id"
    assert list(matching_weights(gpt2, ("mlp.c_fc",))) == ["transformer.h.0.mlp.c_fc.weight"]


PARTS = {
    "neox": ("attention", "post_attention_layernorm", [FIRST], SECOND),
    "llama": ("self_attn", "post_attention_layernorm", [GATE, UP], DOWN),
    "qwen3": ("self_attn", "post_attention_layernorm", [GATE, UP], DOWN),
    "gemma3": ("self_attn", "pre_feedforward_layernorm", [GATE, UP], DOWN),
}


@pytest.mark.parametrize("architecture", PARTS)
def test_parts_of_layers_are_the_modules_of_that_role(architecture):
    attention, norm, first, second = PARTS[architecture]
    whole = model(architecture)
    parts = layers(whole)
    assert len(parts) == 2
    for part, layer in zip(parts, whole.base_model.layers, strict=True):
        named = dict(layer.named_modules())
        assert part.layer is layer
        assert part.attention is named[attention]
        assert part.mlp is named["mlp"]
        assert part.mlp_norm is named[norm]
        assert list(part.first_mlp) == [named[name] for name in first]
        assert part.second_mlp is named[second]


@pytest.mark.parametrize("architecture", PARTS)
def test_the_mlp_reads_what_its_norm_writes_and_writes_what_its_second_layer_does(architecture):
    part = layers(model(architecture))[0]
    seen = {}
    part.mlp_norm.register_forward_hook(lambda module, args, output: seen.update(norm=output))
    part.mlp.register_forward_hook(lambda module, args, output: seen.update(read=args[0], written=output))
    part.second_mlp.register_forward_hook(lambda module, args, output: seen.update(second=output))
    part.layer(
        torch.randn(1, 3, 16), position_embeddings=(torch.ones(1, 3, 8), torch.zeros(1, 3, 8)), attention_mask=None
    )
    assert torch.equal(seen["norm"], seen["read"])
    assert torch.equal(seen["written"], seen["second"])
