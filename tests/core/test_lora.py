"""Low-rank adapters: what they compute, and that nothing of them stays behind."""

import copy

import pytest
import torch
from method_runs import bare
from small_models import identical, small_model, snapshot, token_batches
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from mudman.faults import SpecError
from mudman.lora import Adapters, attach, detach_all
from mudman.specs.components import LoraSpec

TOKENS = token_batches(0, 1)[0]
LAYERS = {
    "llama": ["model.layers.0.mlp.gate_proj", "model.layers.1.self_attn.o_proj"],
    "neox": ["gpt_neox.layers.0.mlp.dense_h_to_4h", "gpt_neox.layers.1.attention.query_key_value"],
}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def shifted(adapters: Adapters, size: float = 0.2) -> Adapters:
    for parameter in adapters.parameters:
        parameter.data.add_(size)
    return adapters


def inner_state(model) -> list:
    return [(name, sorted(vars(m)), list(m._modules), len(m._forward_hooks)) for name, m in model.named_modules()]


def test_by_hand():
    """x = (1, 1), W = (1, 2): 3. A = (1, 1), B = 3, alpha/rank = 8: 8 · 2 · 3 = 48 more."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 2.0]])
    adapters = attach(model, ["0"], LoraSpec(rank=1), seed=0)
    for parameter, value in zip(adapters.parameters, ([[1.0, 1.0]], [[3.0]]), strict=True):
        parameter.data = torch.tensor(value)
    assert model(torch.ones(1, 2)).item() == 51
    adapters.merge()
    assert model[0].weight.tolist() == [[25, 26]]
    assert bare(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "neox"])
def test_born_silent_listed_while_attached_and_gone_without_a_trace(family, dtype):
    model = small_model(family).to(dtype)
    before, weights, inside = logits(model), snapshot(model), inner_state(model)
    adapters = attach(model, LAYERS[family], LoraSpec(rank=3), seed=0)
    assert torch.equal(logits(model), before)
    added = {name: p for name, p in model.named_parameters() if name not in weights}
    assert [id(p) for p in added.values()] == [id(p) for p in adapters.parameters]
    assert all(p.dtype == dtype and p.requires_grad for p in added.values())
    assert weights.keys() < dict(model.named_parameters()).keys()
    shifted(adapters)
    assert not torch.equal(logits(model), before)
    adapters.detach()
    assert torch.equal(logits(model), before)
    assert identical(snapshot(model), weights)
    assert inner_state(model) == inside


def test_several_are_switched_apart():
    model = small_model("llama")
    plain = logits(model)
    one, two = (shifted(attach(model, LAYERS["llama"], LoraSpec(), seed)) for seed in (1, 2))
    both = logits(model)
    with one.off():
        second = logits(model)
        with two.off():
            assert torch.equal(logits(model), plain)
        assert torch.equal(logits(model), second)
    with two.off():
        first = logits(model)
    assert torch.equal(logits(model), both)
    two.detach()
    assert torch.equal(logits(model), first)
    assert len({t.sum().item() for t in (plain, first, second, both)}) == 4
    detach_all(model)
    assert torch.equal(logits(model), plain)
    assert bare(model)


def test_merged_weights_compute_the_same():
    model = small_model("neox")
    names = list(snapshot(model))
    adapters = shifted(attach(model, LAYERS["neox"], LoraSpec(rank=2), seed=0))
    with_adapters = logits(model)
    adapters.merge()
    torch.testing.assert_close(logits(model), with_adapters)
    assert list(snapshot(model)) == names


def test_attached_for_a_while_leaves_even_when_something_is_raised():
    model = small_model("llama")
    adapters = Adapters(model, LAYERS["llama"], LoraSpec(), seed=0)
    with pytest.raises(KeyError), adapters.attached():
        assert not bare(model)
        raise KeyError
    assert bare(model)


def test_birth():
    """A between ±1/√in and spread over it, B zero; the seed decides, and being born again is being born."""
    layer = nn.Sequential(nn.Linear(16, 8))
    one, same, other = (Adapters(layer, ["0"], LoraSpec(rank=64), seed) for seed in (1, 1, 2))
    a, b = one.parameters
    assert 0.24 < a.abs().max() <= 0.25
    assert abs(a.mean()) < 0.02
    assert not b.any()
    assert torch.equal(a, same.parameters[0])
    assert not torch.equal(a, other.parameters[0])
    shifted(other).renew(1)
    assert torch.equal(other.parameters[0], a)
    assert not other.parameters[1].any()


def test_dropout_thins_the_input_while_training_only():
    """B A x with everything 1 is alpha/rank · Σ x: kept entries count double at dropout 1/2."""
    model = nn.Sequential(nn.Linear(999, 1, bias=False))
    adapters = attach(model, ["0"], LoraSpec(rank=1, alpha=1.0, dropout=0.5), seed=0)
    for parameter in (*adapters.parameters, model[0].weight):
        parameter.data.fill_(1.0)
    model[0].weight.data.zero_()
    assert model.eval()(torch.ones(1, 999)).item() == 999
    torch.manual_seed(0)
    thinned = model.train()(torch.ones(1, 999)).item()
    assert thinned != 999
    assert abs(thinned - 999) < 150


def test_a_copy_of_the_model_has_adapters_of_its_own():
    model = small_model("llama")
    adapters = shifted(attach(model, LAYERS["llama"], LoraSpec(), seed=0))
    twin, before = copy.deepcopy(model), logits(model)
    assert torch.equal(logits(twin), before)
    shifted(adapters)
    assert torch.equal(logits(twin), before)
    detach_all(twin)
    assert bare(twin)
    assert not bare(model)


def test_layers_that_are_not_linear_are_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    with pytest.raises(SpecError) as refusal:
        attach(model, ["transformer.h.0.mlp.c_fc"], LoraSpec(), seed=0, path="attack.lora")
    assert [fault.path for fault in refusal.value.faults] == ["attack.lora"]
    assert "c_fc is of type Conv1D" in refusal.value.faults[0].message
    assert bare(model)
