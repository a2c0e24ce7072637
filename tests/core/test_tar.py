"""TAR's nested loop and its random-mapping start: by hand, and what both leave alone."""

from math import log

import pytest
import torch
from method_runs import FORGET, RETAIN, Run, continues, everywhere, stopped_everywhere, unlearned
from small_models import MODULES, identical, small_model, snapshot
from two_weights import LN3, TwoWeights, close

import mudman
from mudman.methods.random_mapping import mapping_loss, token_vectors
from mudman.methods.tar import Adam, Tar, adversary_rate, inner_weights
from mudman.passes import Passes
from mudman.specs import parse_as
from mudman.specs.methods import TarSpec


def method(family: str = "llama", **changes) -> dict:
    settings = {"inner_steps": 3, "every": 2, "adversary_rates": [0.01, 0.05], "unlearning_rate": 0.01, "warm_up": 2}
    return {"type": "tar", "target_modules": MODULES[family], **settings, **changes}


def mapping(family: str = "llama", **changes) -> dict:
    rates = {"unlearning_rate": 0.5, "retaining_rate": 0.05}
    return {"type": "random_mapping", "target_modules": MODULES[family], **rates, **changes}


BY_HAND = {
    "target_modules": ["probe"],
    "loss": "neg_cross_entropy",
    "attack_optimizer": "sgd",
    "inner_steps": 1,
    "every": 1,
    "weighting": 0.0,
    "adversary_rates": [2 * LN3],
    "unlearning_rate": 0.1,
    "warm_up": 0,
}


def probed(weights: tuple, **changes) -> Tar:
    """TAR on a model of two weights, not started yet."""
    model = TwoWeights(*weights)
    return Tar(model, parse_as(TarSpec, {"type": "tar", **BY_HAND, **changes}), Passes(model))


# ------------------------------------------------------------------------------------------------------ by hand


def test_one_inner_step():
    """Forget (0,0), rate 2 ln 3: attacked at −ln 3, where g on another (0,0) is −1/4."""
    batches = iter([torch.tensor([(0, 0)])] * 2)
    (gradient,), loss = probed((0, 0))._tamper_resistance(batches, 2 * LN3)
    assert gradient[0].tolist() == close(-1 / 4, 0)
    assert loss.item() == pytest.approx(log(4 / 3))


def test_gradients_along_the_attack_are_weighted():
    """The same attack, then (0,1): ∂CE = −3/4, up by 3/2 ln 3 to ln 3/2. With λ = ln 2 the second, on (1,1) where

    w₁ = 0: 1/2, counts twice as much as the first, on (0,0): −1/4.
    """
    batches = iter(torch.tensor([sequence]) for sequence in [(0, 0), (0, 0), (0, 1), (1, 1)])
    (gradient,), _ = probed((0, 0), inner_steps=2, weighting=log(2))._tamper_resistance(batches, 2 * LN3)
    assert gradient[0].tolist() == close(-1 / 12, 1 / 3)


def test_the_attack_may_be_adamw():
    """Its first step is the rate itself, whatever the gradient's size: from 0 to −ln 3, as above."""
    batches = iter([torch.tensor([(0, 0)])] * 2)
    (gradient,), _ = probed((0, 0), attack_optimizer="adamw")._tamper_resistance(batches, LN3)
    assert gradient[0].tolist() == close(-1 / 4, 0)


@pytest.mark.parametrize(("squared", "expected"), [(False, 0), (True, -1 / 4 + LN3 / 2)])
def test_retain_gradient(squared, expected):
    """Retain (0,1) at w₀ = ln 3: CE −1/4. The original has w₀ = 0: states are apart by w₀ at one of two tokens, in one
    of two states: |w₀|/4 or w₀²/4, with slope 1/4 or ln 3/2.
    """
    tar = probed((0, 0), squared=squared)
    tar.base[0][0, 0] = LN3
    tar.weights[0].requires_grad_(True)
    (gradient,), loss = tar._retain_gradient(torch.tensor([(0, 1)]))
    assert gradient[0].tolist() == close(expected, 0)
    assert loss.item() == pytest.approx(log(4 / 3))


@pytest.mark.parametrize(
    ("scales", "warm_up", "expected"),
    [
        ((4.0, 1.0), 0, (0.1, -0.1)),
        ((4.0, 1.0), 5, (0.02, -0.02)),
        ((0.0, 1.0), 0, (0, -0.1)),
        ((4.0, 0.0), 0, (0.1, 0)),
    ],
)
def test_the_first_outer_step(scales, warm_up, expected):
    """Tamper resistance (−1/4, 0), retain (1,0): (0, 1/2). AdamW's first step is the rate, against each sign."""
    model = TwoWeights(0, 0)
    forget, retain = [torch.tensor([(0, 0)])], [torch.tensor([(1, 0)])]
    settings = {"tamper_scale": scales[0], "retain_scale": scales[1], "warm_up": warm_up}
    mudman.unlearn(model, forget, retain, {"type": "tar", **BY_HAND, **settings}, 7)
    assert model.values() == close(*expected)


@pytest.mark.parametrize(("tamper_scale", "harmful"), [(4.0, 1), (0.5, 0)])
def test_a_trace_is_of_the_common_step(tamper_scale, harmful):
    """Retain (0,1): g = (−1/2, 0). Forget (1,0), attacked down to w₁ = −ln 3, and (0,1): unlearning gradient (1/2, 0).

    AdamW's first step is the rate against the sign of −1/2 + s/2.
    """
    forget, retain = [torch.tensor([(1, 0)]), torch.tensor([(0, 1)])], [torch.tensor([(0, 1)])]
    settings = {"type": "tar", **BY_HAND, "tamper_scale": tamper_scale}
    trace = mudman.unlearn(TwoWeights(0, 0), forget, retain, settings, 7, trace=True)[1].trace
    assert (trace.gradient_norm, trace.retain_norm) == ((0.5,), (0.5,))
    assert (trace.agreeing, trace.kept, trace.harmful) == ((0,), (1,), (harmful,))
    assert trace.update_norm == (pytest.approx(0.1),)


@pytest.mark.parametrize(
    ("steps", "every", "weighting", "expected"),
    [
        (8, 4, log(2) / 4, {4: 1 / 3, 8: 2 / 3}),
        (8, 4, 0.0, {4: 1 / 2, 8: 1 / 2}),
        (5, 2, 0.0, {2: 1 / 3, 4: 1 / 3, 5: 1 / 3}),
        (2, 9, 1.0, {2: 1.0}),
        (2000, 1000, 1.0, {1000: 0.0, 2000: 1.0}),
    ],
)
def test_inner_weights(steps, every, weighting, expected):
    assert inner_weights(steps, every, weighting) == pytest.approx(expected)


def test_the_optimizer_is_torchs_own():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator)
    theirs, ours = torch.nn.Parameter(start.clone()), start.clone()
    optimizer, adam = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.0), Adam([ours])
    for count in range(1, 6):
        theirs.grad = torch.randn(4, 3, generator=generator)
        optimizer.step()
        adam.step(0, theirs.grad, 0.1, count)
    torch.testing.assert_close(ours, theirs.data)


def test_rates_of_the_attack_depend_on_the_loop_alone():
    rates = (1.0, 2.0, 3.0)
    drawn = [adversary_rate(rates, loop) for loop in range(60)]
    assert drawn == [adversary_rate(rates, loop) for loop in range(60)]
    assert all(drawn.count(rate) > 10 for rate in rates)


# ----------------------------------------------------------------------------------------------- random mapping


def test_a_token_has_one_vector():
    tokens = torch.tensor([[3, 5, 3], [5, 4, 100_000]])
    vectors = token_vectors(tokens, 400)
    assert vectors.shape == (2, 3, 400)
    assert torch.equal(vectors[0, 0], vectors[0, 2])
    assert torch.equal(vectors[0, 1], vectors[1, 0])
    assert torch.equal(token_vectors(torch.tensor([[4]]), 400)[0, 0], vectors[1, 1])
    apart = torch.nn.functional.normalize(token_vectors(torch.arange(30)[None], 400)[0], dim=-1)
    assert (apart @ apart.T - torch.eye(30)).abs().max() < 0.25
    assert 0.9 < vectors.std() < 1.1


def test_mapping_loss():
    """Along the vector, or against it, nothing is left to do; across it, all."""
    tokens = torch.tensor([[7, 8]])
    vectors = token_vectors(tokens, 4)
    across = vectors.roll(1, -1) * torch.tensor([1.0, -1.0, 1.0, -1.0])  # (−d, a, −b, c)·(a, b, c, d) need not be 0
    across = across - (across * vectors).sum(-1, keepdim=True) / vectors.square().sum(-1, keepdim=True) * vectors
    assert mapping_loss((vectors * 2, -vectors), tokens).item() == pytest.approx(0, abs=1e-6)
    assert mapping_loss((vectors, across), tokens).item() == pytest.approx(1 / 2, abs=1e-6)


def test_states_turn_to_their_vectors():
    model = small_model("llama")

    def distance() -> float:
        with torch.no_grad():
            return mapping_loss(model(input_ids=FORGET[0], output_hidden_states=True).hidden_states, FORGET[0]).item()

    before = distance()
    unlearned(model, mapping(unlearning_rate=2.0, retaining_rate=0.0), loops=18)
    assert distance() < before - 0.05


def test_the_start_maps_as_often_as_its_passes_allow():
    """Two of three loops map: 13 passes hold three times four. They are what three loops of random mapping do."""
    config = method(random_mapping={"loops": 2, "rate": 0.3})
    assert parse_as(TarSpec, config).passes_per_loop() == 13
    run = Run(small_model("llama"), config).loops(2)
    mapped, _ = unlearned(small_model("llama"), mapping(unlearning_rate=0.3, retaining_rate=0.3), loops=6)
    assert identical(snapshot(run.method.model), mapped)
    assert run.method.passes.made == 24
    run.loops(1)
    assert run.method.passes.made == 24 + 13
    assert run.method.outer_steps == 1


# ---------------------------------------------------------------------------------------------------- properties


@everywhere
@pytest.mark.parametrize("config", [method, mapping], ids=["tar", "random_mapping"])
def test_only_targets_move(config, family, dtype):
    model = small_model(family).to(dtype)
    before = snapshot(model)
    after, record = unlearned(model, config(family), loops=3)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == set(record.intervened)
    assert all(weight.isfinite().all() for weight in after.values())
    assert record.passes_made == record.passes_booked


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_attack_leaves_the_model_alone(optimizer):
    model = small_model("llama")
    before = snapshot(model)
    config = method(unlearning_rate=0.0, adversary_rates=[1.0], attack_optimizer=optimizer)
    assert identical(unlearned(model, config, loops=2)[0], before)


@pytest.mark.parametrize(
    "config", [method(), method(random_mapping={"loops": 3}), mapping()], ids=["tar", "mapped", "random_mapping"]
)
def test_continued_stopped_and_paused(config):
    assert continues(lambda: small_model("llama"), config)
    booked = 13 if config["type"] == "tar" and "random_mapping" not in config else None
    left = stopped_everywhere(lambda: small_model("llama"), config)
    assert len(left) == (booked or {"tar": 12, "random_mapping": 4}[config["type"]])
    run = Run(small_model("llama"), config)
    forget, retain = run.method.step(iter(FORGET), iter(RETAIN), paused=True)
    assert forget is None
    assert retain > 0


def test_a_vanished_gradient_is_counted_and_never_nan():
    model = small_model("llama")
    config = method(loss={"type": "correct_logit", "clip": 1e6}, retain_scale=0.0)
    before = snapshot(model)
    after, record = unlearned(model, config, loops=2)
    assert identical(after, before)
    assert record.zero_norm_loops == 2
