"""Meta-learning in nested loops: by hand at both orders, and second order against finite differences."""

import pytest
import torch
from method_runs import FORGET, RETAIN, Run, continues, everywhere, stopped_everywhere, unlearned
from small_models import MODULES, identical, small_model, snapshot
from two_weights import LN3, TwoWeights, close

import mudman
from mudman.losses import neg_cross_entropy
from mudman.specs import parse_as
from mudman.specs.methods import NestedSpec

ORDERS = ("first", "second")


def method(family: str = "llama", **changes) -> dict:
    rates = {"unlearning_rate": 0.02, "retaining_rate": 0.05, "adversary_rate": 0.1, "inner_steps": 2}
    return {"type": "nested", "target_modules": MODULES[family], **rates, **changes}


def two_weights(forget: list, retain=((0, 1),), **changes) -> list[float]:
    settings = {
        "target_modules": ["probe"],
        "mask": {"type": "none"},
        "normalization": "none",
        "retaining_rate": 0.0,
        "retain_momentum": 0.0,
        "adversary_rate": 2 * LN3,
        "inner_steps": 1,
        "unlearning_rate": 4.0,
    }
    config = {"type": "nested", **settings, **changes}
    model = TwoWeights(0, 0)
    batches = [torch.tensor([sequence]) for sequence in forget]
    mudman.unlearn(model, batches, [torch.tensor(retain)], config, parse_as(NestedSpec, config).passes_per_loop())
    return model.values()


# ------------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(("order", "expected"), [("first", 1), ("second", 1 - LN3 / 2)])
def test_one_adversary(order, expected):
    """Forget (0,0) twice, adversary rate 2 ln 3: at 0, ∂CE = 1/2, so it goes to u = −ln 3, where g_u = −σ(u) = −1/4.

    u(w) = w − 2 ln 3 · σ(w), so that at second order u′(0) = 1 − 2 ln 3 · 1/4 is a factor. Rate 4.
    """
    assert two_weights([(0, 0), (0, 0)], order=order) == close(expected, 0)


@pytest.mark.parametrize(("order", "expected"), [("first", -1), ("second", -1 + LN3 / 2)])
def test_two_adversaries_are_averaged(order, expected):
    """The first as above: −1/4. The second ends on (0,1), where ∂(−CE) = 1 − σ(u) = 3/4. Mean 1/4, with u′ as above."""
    batches = [(0, 0), (0, 0), (0, 0), (0, 1)]
    assert two_weights(batches, adversaries=2, order=order) == close(expected, 0)


def test_two_inner_steps():
    """(0,0) to −ln 3, then (0,1) there: ∂CE = 1/4 − 1, up by 3/2 ln 3 to ln 3/2; g_u on (0,0) is −1/(1 + 3^−½)."""
    weights = two_weights([(0, 0), (0, 1), (0, 0)], inner_steps=2)
    assert weights == close(4 / (1 + 3**-0.5), 0)


@pytest.mark.parametrize(("mask", "normalization", "expected"), [("sign", "none", 0), ("none", "global_pre_mask", 1)])
def test_mask_and_normalisation(mask, normalization, expected):
    """Retain (0,0): acc = 1/2 at w₀, where g_u = −1/4: masked. Alone and normalised, √2 · 1 at rate 1/√2."""
    settings = {"mask": {"type": mask}, "normalization": normalization, "unlearning_rate": 2**-0.5}
    assert two_weights([(0, 0), (0, 0)], retain=((0, 0),), **settings) == close(expected, 0)


def test_adversaries_start_from_the_model_after_its_retain_step():
    """Retain (0,1), rate 2 ln 3: w₀ = ln 3. Forget (0,0) there: 3/4 · 4/3 ln 3 = ln 3 down to 0, where g_u = −1/2."""
    rates = {"retaining_rate": 2 * LN3, "adversary_rate": 4 / 3 * LN3}
    assert two_weights([(0, 0), (0, 0)], **rates) == close(LN3 + 2, 0)


# ------------------------------------------------------------------------------------------------- second order


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_second_order_against_finite_differences(family):
    """The loss at the end of the adversary's training, as a function of the model it starts from: its slope in the
    direction where the two orders differ most."""
    rate, steps, width = 0.3, 3, 5e-3
    model = small_model(family, initializer_range=0.3)
    config = method(family, order="second", inner_steps=steps, adversary_rate=rate)
    second = Run(model, config).method
    first = Run(model, config | {"order": "first"}).method
    gradient, _ = second._through_the_steps(iter(FORGET))
    naive, _ = first._where_they_lead(iter(FORGET))
    apart = [a - b for a, b in zip(gradient, naive, strict=True)]
    size = sum(float(part.square().sum()) for part in apart) ** 0.5
    direction = [part / size for part in apart]

    def ending_loss(shift: float) -> float:
        twin = small_model(family, initializer_range=0.3)
        weights = [twin.get_parameter(name) for name in second.intervened]
        for weight, part in zip(weights, direction, strict=True):
            weight.data += shift * part
        for tokens in FORGET[:steps]:
            loss = -neg_cross_entropy(twin(input_ids=tokens).logits, tokens)
            for weight, step in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.data -= rate * step
        return neg_cross_entropy(twin(input_ids=FORGET[steps]).logits, FORGET[steps]).item()

    slope = (ending_loss(width) - ending_loss(-width)) / (2 * width)
    along, naively = (sum(float((g * d).sum()) for g, d in zip(gs, direction, strict=True)) for gs in (gradient, naive))
    assert size > 0.05
    assert along == pytest.approx(slope, abs=0.1 * size)
    assert abs(naively - slope) > 0.8 * size


def test_without_inner_learning_the_orders_agree():
    results = [unlearned(small_model("llama"), method(order=o, adversary_rate=0.0), loops=2)[0] for o in ORDERS]
    for name, weight in results[0].items():
        torch.testing.assert_close(results[1][name], weight, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- properties


@everywhere
@pytest.mark.parametrize("order", ORDERS)
def test_only_targets_move(order, family, dtype):
    model = small_model(family).to(dtype)
    before = snapshot(model)
    after, record = unlearned(model, method(family, order=order, adversaries=2), loops=2)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == set(record.intervened)
    assert all(weight.isfinite().all() for weight in after.values())
    assert record.passes_made == 2 * 14 <= record.passes_booked


@pytest.mark.parametrize("order", ORDERS)
def test_adversaries_leave_the_model_alone(order):
    model = small_model("llama")
    before = snapshot(model)
    config = method(order=order, unlearning_rate=0.0, retaining_rate=0.0, adversary_rate=1.0, adversaries=2)
    assert identical(unlearned(model, config, loops=2)[0], before)


def test_a_vanished_gradient_updates_nothing():
    """The logit loss is flat below its clip."""
    model = small_model("llama")
    before = snapshot(model)
    config = method(loss={"type": "correct_logit", "clip": 1e6}, retaining_rate=0.0)
    after, record = unlearned(model, config, loops=2)
    assert identical(after, before)
    assert record.zero_norm_loops == 2


@pytest.mark.parametrize("order", ORDERS)
def test_continued_stopped_and_paused(order):
    config = method(order=order)
    assert continues(lambda: small_model("llama"), config)
    assert len(stopped_everywhere(lambda: small_model("llama"), config)) == 8
    run = Run(small_model("llama"), config)
    forget, retain = run.method.step(iter(FORGET), iter(RETAIN), paused=True)
    assert forget is None
    assert retain > 0
