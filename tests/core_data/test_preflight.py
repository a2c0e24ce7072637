"""What is said of a model's folder without loading it, against the loaded model."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from studies import NEOX, small
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from mudman import packaged, relearn
from mudman.faults import SpecError
from mudman.modules import matching_weights
from mudman.preflight import preflight, tensors
from mudman.sizes import STATES

sys.path.append(str(Path(__file__).parent.parent / "core"))
from live_memory import LiveMemory


@pytest.fixture
def own(tmp_path) -> Path:
    return Path(shutil.copytree(packaged.MODELS["tiny-llama"].path, tmp_path / "mine"))


@pytest.mark.parametrize("changes", [
    {},
    {"method.target_modules": ["group:all_linear"]},
    {"method.target_modules": ["mlp.up_proj", "q_proj", "embed_tokens", "norm"]},
    NEOX,
    NEOX | {"method.target_modules": ["dense", "group:qkv"]},
    {"method.target_modules": ["lm_head"]},
    NEOX | {"method.target_modules": ["lm_head"]},
    {"method.target_modules": ["lm_head", "embed_tokens"]},
    {"method": {"type": "none"}},
])  # fmt: skip
def test_it_is_what_the_loaded_model_says(changes):
    spec = small(changes)
    folder = packaged.MODELS[spec.model.id].path
    found, model = preflight(folder, spec), AutoModelForCausalLM.from_pretrained(folder)
    matched = {} if spec.method.type == "none" else matching_weights(model, spec.method.target_modules)
    assert set(found.matched) == set(matched)
    assert found.intervened == sum(weight.numel() for weight in matched.values())
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert (found.layers, found.model_type) == (model.config.num_hidden_layers, model.config.model_type)


def test_weights_in_several_files(own):
    model = AutoModelForCausalLM.from_pretrained(own)
    whole = preflight(own, small())
    (own / "model.safetensors").unlink()
    model.half().save_pretrained(own, max_shard_size="1MB")
    assert len(list(own.glob("model-*.safetensors"))) > 1
    assert preflight(own, small()).parameters == whole.parameters
    next(iter(own.glob("model-*.safetensors"))).unlink()
    assert "lacks model-" in fault(own)


def fault(folder, changes: dict | None = None, *, many: int = 1) -> str:
    with pytest.raises(SpecError) as error:
        preflight(folder, small(changes))
    assert len(error.value.faults) == many
    return str(error.value)


def test_every_fault_is_said_with_its_remedy(own, tmp_path):
    assert "there is no folder" in fault(tmp_path / "other")
    assert "'gate_pro'" in fault(own, {"method.target_modules": ["gate_pro"]})
    assert "down_proj, embed_tokens, gate_proj" in fault(own, {"method.target_modules": ["gate_pro"]})
    said = fault(own, {"method.target_modules": ["gate_pro", "group:qvk"], "batch.length": 300}, many=3)
    assert "batch.length: 300 tokens are more than the model takes. Remedy: take at most 256." in said
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "mine.Model"}}))
    (own / "tokenizer.json").rename(own / "elsewhere")
    said = fault(own, many=2)
    assert "code of its own" in said
    assert "holds no tokenizer" in said
    (own / "config.json").write_text("{")
    assert "config.json cannot be read" in fault(own)
    (own / "config.json").unlink()
    assert "no configuration" in fault(own)


def test_another_models_tokenizer(own):
    described = json.loads((own / "tokenizer.json").read_text())
    described["added_tokens"].append(described["added_tokens"][0] | {"id": 4096, "content": "<new>"})
    (own / "tokenizer.json").write_text(json.dumps(described))
    assert "its tokenizer gives token 4096, and the model knows 4096 tokens" in fault(own)


def test_weights_that_are_not_whole(own):
    weights = own / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert "is not whole" in fault(own)
    for damaged in (b"", b"\xff" * 50, content[:8] + b"{" * 500):
        weights.write_bytes(damaged)
        assert "model.safetensors" in fault(own)
    weights.write_bytes(content)
    torch.save(load_file(weights), own / "pytorch_model.bin")
    weights.unlink()
    assert "only in pytorch_model.bin" in fault(own)
    save_file({"a.weight": torch.zeros(2, 2)}, weights)
    assert "no module of this model is named 'gate_proj'" in fault(own)


def _nested(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), _nested)
KEYS = (
    *("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "text_config"),
    *("max_position_embeddings", "auto_map", "model", "added_tokens", "weight_map"),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["config.json", "tokenizer.json", "model.safetensors.index.json"]),
    JSON | st.dictionaries(st.sampled_from(KEYS), JSON),
)
def test_whatever_the_files_hold_is_a_fault_or_none(own, name, content):
    before = (own / name).read_text() if (own / name).exists() else None
    (own / name).write_text(json.dumps(content))
    try:
        preflight(own, small())
    except SpecError as error:
        assert all(fault.remedy for fault in error.faults)
    finally:
        if before is None:
            (own / name).unlink()
        else:
            (own / name).write_text(before)


@pytest.mark.parametrize(("hidden", "length"), [(256, 16), (64, 96)])
def test_memory_is_enough_and_not_far_too_much(hidden, length):
    """Against every byte that torch holds in an attack, once where weights and once where activations weigh most."""
    spec = small({"batch": {"size": 8, "length": length}, "attack.passes": 2})
    shape = {"vocab_size": 64, "hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": 4}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **shape))
    parameters = sum(weight.numel() for weight in model.parameters())
    batch = torch.randint(64, (8, length))
    with LiveMemory([*model.parameters(), *model.buffers(), batch]) as memory:
        relearn(model, [batch], spec.attack)
    measured = memory.peak + 2 * 4 * parameters  # with the model and its snapshot
    intervened = sum(math.prod(w.shape) for w in matching_weights(model, ("gate_proj",)).values())
    said = tensors(spec, model.config.to_dict(), parameters, intervened)
    assert measured <= said <= 2.5 * measured, said / measured


@pytest.mark.parametrize(("layers", "kept"), [(3, 2 * 20 * 4 * (2 * 8) * 16 * 4), (2**20, STATES)])
def test_what_is_kept_of_the_original_is_counted(layers, kept):
    """Two batches in each of 20 loops, 4 states of 16 numbers for 2 x 8 tokens; never more than may be kept."""
    config = {"num_hidden_layers": layers, "hidden_size": 16, "num_attention_heads": 1, "vocab_size": 8}
    said = []
    for method in ("circuit_breakers", "gradient_difference"):
        changes = {"batch": {"size": 2, "length": 8}, "budget.unlearn_passes": 100, "attack.lora": {"rank": 2}}
        spec = small({"method": {"type": method, "target_modules": ["gate_proj"], "unlearning_rate": 1e-3}, **changes})
        said.append(tensors(spec, config, 1000, 10))
    assert said[0] - said[1] == kept


@pytest.mark.parametrize(("parameters", "copies"), [(2**28 - 1, 2), (2**28, 1)])
def test_a_card_holds_no_snapshot_of_a_large_model(parameters, copies):
    said = {}
    for gpus in (0, 1):
        spec = small({"method": {"type": "none"}, "attack.lora": {"rank": 2}, "resources.gpus": gpus})
        said[gpus] = tensors(spec, {}, parameters, 0)
    assert said == {0: 2 * 4 * parameters, 1: copies * 4 * parameters}
