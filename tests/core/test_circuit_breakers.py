"""Circuit breakers: the two losses, the two steps, and adapters that stay."""

import copy
from math import sqrt

import pytest
import torch
from method_runs import FORGET, RETAIN, Run, continues, everywhere, stopped_everywhere, unlearned
from small_models import MODULES, identical, small_model, snapshot
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import mudman
from mudman.faults import SpecError
from mudman.lora import Adapter
from mudman.methods.circuit_breakers import breaking_loss

LORA = {"rank": 2, "alpha": 8.0}


def method(family: str = "llama", **changes) -> dict:
    rates = {"unlearning_rate": 0.01, "retaining_rate": 0.05}
    return {"type": "circuit_breakers", "target_modules": MODULES[family], **rates, **changes}


def rms_of_change(after: dict, before: dict, names) -> float:
    squares = [(after[name] - before[name]).double().square().flatten() for name in names]
    return torch.cat(squares).mean().sqrt().item()


# ------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_breaking_loss(dtype):
    """Cosines 1, 1/√2, 0 and −1, the last cut off at 0."""
    original = torch.tensor([[[1.0, 0.0]] * 4], dtype=dtype)
    hidden = torch.tensor([[[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [-1.0, 0.0]]], dtype=dtype)
    assert breaking_loss(hidden, original).item() == pytest.approx((1 + 1 / sqrt(2)) / 4, rel=1e-6)


def test_its_gradient_vanishes_where_nothing_has_moved_and_is_never_nan():
    original = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    original[0, 0] = 0
    hidden = original.clone().requires_grad_()
    loss = breaking_loss(hidden, original)
    assert loss.item() == pytest.approx(5 / 6)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert gradient.abs().max() < 1e-7
    assert gradient.isfinite().all()


# --------------------------------------------------------------------------------------------------- properties


@everywhere
@pytest.mark.parametrize("lora", [None, LORA], ids=["weights", "adapters"])
def test_only_what_is_trained_moves(lora, family, dtype):
    model = small_model(family).to(dtype)
    before = snapshot(model)
    after, record = unlearned(model, method(family, **({"lora": lora} if lora else {})), loops=3)
    assert record.passes_made == 3 * 6
    assert all(weight.isfinite().all() for weight in after.values())
    if lora:
        assert set(record.intervened) == after.keys() - before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        moved = {name.partition(".lora")[0] + ".weight" for name in record.intervened if after[name].any()}
    else:
        assert after.keys() == before.keys()
        moved = {name for name in before if not torch.equal(after[name], before[name])}
        assert moved <= set(record.intervened)
    # Two layers: what turns away is the state between them, and the last state may go where it likes.
    assert any(".layers.0." in name for name in moved)


@pytest.mark.parametrize("lora", [None, LORA], ids=["weights", "adapters"])
def test_where_nothing_has_moved_the_retain_step_does_nothing(lora):
    """The distance is 0 and so is its gradient: not NaN."""
    model = small_model("llama")
    before = snapshot(model)
    rates = {"unlearning_rate": 0.0, "retaining_rate": 10.0}
    after, _ = unlearned(model, method(**rates, **({"lora": lora} if lora else {})), loops=3)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(weight.any() for name, weight in after.items() if name.endswith("lora_0.b"))


@pytest.mark.parametrize("lora", [None, LORA], ids=["weights", "adapters"])
def test_an_update_has_the_rate_as_its_root_mean_square(lora):
    """Over all entries that are trained: the adapters' own, where there are adapters."""
    config = method(unlearning_rate=0.003, retaining_rate=0.0, **({"lora": lora} if lora else {}))
    run = Run(small_model("llama"), config)
    for _ in range(3):
        before = snapshot(run.method.model)
        run.loops(1)
        rms = rms_of_change(snapshot(run.method.model), before, run.method.intervened)
        assert rms == pytest.approx(0.003, rel=1e-3)


def test_without_a_gradient_the_model_stays():
    """No gate of any layer reaches the embeddings, hidden state 0."""
    model = small_model("llama")
    before = snapshot(model)
    after, record = unlearned(model, method(layer=0), loops=2)
    assert identical(after, before)
    assert record.zero_norm_loops == 2


def test_a_loop_against_the_two_steps_written_out():
    """From a model that has moved: the retain step against a whole frozen copy, then the forget step after it."""
    frozen = small_model("neox")
    run = Run(small_model("neox"), method("neox")).loops(1)
    twin = copy.deepcopy(run.method.model)
    weights = [twin.get_parameter(name) for name in run.method.intervened]
    run.loops(1)

    def slopes(loss):
        return torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)

    def states(model, tokens):
        return model(input_ids=tokens, output_hidden_states=True).hidden_states

    pairs = zip(states(twin, RETAIN[1])[:-1], states(frozen, RETAIN[1])[:-1], strict=True)
    distance = sum(torch.norm(ours - theirs.detach(), dim=-1).mean() for ours, theirs in pairs) / 2
    for weight, gradient in zip(weights, slopes(distance), strict=True):
        weight.data -= 0.05 * gradient
    middle = states(twin, FORGET[1])[1], states(frozen, FORGET[1])[1].detach()
    cosine = nn.functional.cosine_similarity(*middle, dim=-1).clamp(min=0).mean()
    gradients = slopes(cosine)
    norm = sum(float(g.square().sum()) for g in gradients) ** 0.5
    size = sum(w.numel() for w in weights) ** 0.5
    for mine, weight, gradient in zip(run.method.weights, weights, gradients, strict=True):
        torch.testing.assert_close(mine.data, weight.data - 0.01 * gradient * size / norm, rtol=1e-4, atol=1e-5)


def test_representations_turn_away():
    model, frozen = small_model("llama"), small_model("llama")

    def cosine() -> float:
        with torch.no_grad():
            ours, theirs = (m(input_ids=FORGET[0], output_hidden_states=True).hidden_states[1] for m in (model, frozen))
        return breaking_loss(ours, theirs).item()

    assert cosine() == pytest.approx(1)
    unlearned(model, method(unlearning_rate=0.03, retaining_rate=0.0), loops=12)
    assert cosine() < 0.9


# ------------------------------------------------------------------------------------------------------ adapters


def test_adapters_stay_and_the_attack_trains_them_with_the_base():
    model = small_model("llama")
    _, record = unlearned(model, method(lora=LORA), loops=2)
    adapters = [module for module in model.modules() if isinstance(module, Adapter)]
    assert len(adapters) == 2
    assert all(weight.requires_grad for weight in model.parameters())
    before = snapshot(model)
    mudman.relearn(model, FORGET, {"rate": 0.1, "passes": 4})
    after = snapshot(model)
    assert not any(torch.equal(after[name], before[name]) for name in (*record.intervened, "lm_head.weight"))


@pytest.mark.parametrize("lora", [None, LORA, {**LORA, "dropout": 0.5}], ids=["weights", "adapters", "dropout"])
def test_a_continued_run_is_the_whole_run(lora):
    assert continues(lambda: small_model("llama"), method(**({"lora": lora} if lora else {})))


def test_dropout_leaves_the_callers_random_numbers_alone():
    model = small_model("llama")
    before = torch.get_rng_state()
    unlearned(model, method(lora={**LORA, "dropout": 0.5}), loops=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("lora", [None, LORA], ids=["weights", "adapters"])
def test_after_a_stop_order_the_weights_are_its_own(lora):
    config = method(**({"lora": lora} if lora else {}))
    left = stopped_everywhere(lambda: small_model("llama"), config)
    assert len(left) == 6
    assert all(module.on for model in left for module in model.modules() if isinstance(module, Adapter))


def test_paused_only_retains():
    model = small_model("llama")
    run = Run(model, method(retaining_rate=0.0))
    before = snapshot(model)
    forget, retain = run.method.step(*run.streams, paused=True)
    assert forget is None
    assert retain > 0
    assert identical(snapshot(model), before)


def test_refusals():
    with pytest.raises(SpecError) as refusal:
        unlearned(small_model("llama"), method(layer=3), loops=1)
    assert [fault.path for fault in refusal.value.faults] == ["method.layer"]
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=16, n_embd=4, n_layer=1, n_head=1))
    with pytest.raises(SpecError) as refusal:
        unlearned(gpt2, method() | {"target_modules": ["c_fc"], "lora": LORA}, loops=1)
    assert [fault.path for fault in refusal.value.faults] == ["method.lora"]
