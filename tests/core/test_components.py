"""Weight consensus, Online-EWC, selective revert, neutral settings, state and trace (see ``two_weights``)."""

from math import log, sqrt

import pytest
import torch
from short_runs import FORGET, RETAIN, loop_passes, method, model_of, run
from small_models import MODULES, identical, snapshot
from two_weights import LN3, PLAIN, TwoWeights, close, unlearned

import mudman
from mudman.components import pull_back_, revert_small_changes_, signed_power_
from mudman.methods.mudman import Mudman
from mudman.passes import Passes
from mudman.specs import MethodSpec, parse_as

# ----------------------------------------------------------------------------------------------- weight consensus


def test_signed_power():
    x = [torch.tensor([-4.0, 0.0, 9.0])]
    signed_power_(x, 0.5)
    assert x[0].tolist() == close(-2, 0, 3)
    signed_power_(x, 3)
    assert x[0].tolist() == close(-8, 0, 27)


def test_weight_consensus():
    """Forget (0,0), β = ½, p = 2, rate 8 ln 3. Loop 1: g_u = −½, average −√½/2, applied −⅛: w₀ = ln 3.

    There g_u = −¾: average −(√½/4 + √¾/2), applied its square.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0)]],
        [[(0, 1)]],
        loops=2,
        forget_momentum=0.5,
        consensus_power=2.0,
        unlearning_rate=8 * LN3,
        **PLAIN,
    )
    assert weights == close(LN3 + 8 * LN3 * (sqrt(0.5) / 4 + sqrt(0.75) / 2) ** 2, 0)


def test_consensus_prefers_what_many_loops_want():
    """A gradient of 8 once, or of 2 in four loops: the plain averages are alike, with p = 3 the second wins."""
    once, often = [torch.tensor([x]) for x in (8.0, 0.0, 0.0, 0.0)], [torch.tensor([2.0])] * 4

    def total(gradients: list[torch.Tensor], power: float) -> float:
        roots = [gradient.clone() for gradient in gradients]
        signed_power_(roots, 1 / power)
        average = [torch.stack(roots).mean(0)]
        signed_power_(average, power)
        return average[0].item()

    assert total(once, 1) == total(often, 1) == 2
    assert total(once, 3) == pytest.approx(1 / 8)
    assert total(often, 3) == pytest.approx(2)


# ----------------------------------------------------------------------------------------------------- Online-EWC


def test_pull_back():
    """F = ½ · 4 + ½ · 2² = 4; g = 2 + 3 · 4 · (1.5 − 1) = 8."""
    gradients, importance = [torch.tensor([2.0])], [torch.tensor([4.0])]
    pull_back_(gradients, importance, [torch.tensor([1.5])], [torch.tensor([1.0])], strength=3.0, decay=0.5)
    assert (gradients[0].item(), importance[0].item()) == (8, 4)


@pytest.mark.parametrize(("strength", "expected"), [(8 / 3 / LN3, LN3), (0.0, 1.5 * LN3), (4 / 3 / LN3, 1.25 * LN3)])
def test_online_ewc(strength, expected):
    """Retain (0,1), γ = ½, rate 2 ln 3. Loop 1: g = −½, F = ⅛, no pull at the start, w₀ = ln 3.

    Loop 2: g = −¼, F = 1/16 + 1/32 = 3/32; with λ = 8/(3 ln 3) the pull λ · F · ln 3 = ¼ holds w₀ there.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(1, 1)]],
        [[(0, 1)]],
        loops=2,
        ewc={"strength": strength, "decay": 0.5},
        retaining_rate=2 * LN3,
        unlearning_rate=0.0,
        **PLAIN,
    )
    assert weights == close(expected, 0)


# ------------------------------------------------------------------------------------------------ selective revert


def test_revert_small_changes():
    weights, original = [torch.tensor([1.0, 1.25, 0.5, -2.0])], [torch.tensor([1.0, 1.0, 1.0, -1.0])]
    revert_small_changes_(weights, original, 0.5)
    assert weights[0].tolist() == [1, 1, 0.5, -2]


@pytest.mark.parametrize(("threshold", "expected"), [(0.2, (6 / 8, -2 / 8)), (0.3, (6 / 8, 0)), (0.8, (0, 0))])
def test_revert_counts_the_change_of_the_whole_run(threshold, expected):
    """Forget three times (0,0), once (1,1), rate 1, two loops at the adversary 0: each moves by (3/8, −1/8)."""
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0), (0, 0), (0, 0), (1, 1)]],
        [[(0, 1)]],
        loops=2,
        revert_below=threshold,
        unlearning_rate=1.0,
        mask="none",
        normalization="none",
        adversary={"gradient": "reuse"},
        fork_every=2,
    )
    assert weights == close(*expected)


# ----------------------------------------------------------------------------------------------- neutral settings


@pytest.mark.parametrize(
    "neutral",
    [
        {"ewc": {"strength": 0.0}},
        {"revert_below": 1e-30},
        {"representation_loss": {"coefficient": 0.0}},
        {"backward": {"type": "fading", "factor": 1.0, "attention": True}},
        {"backward": {"type": "shrink_activations", "growing": 1.0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", MODULES)
def test_neutral_settings_change_no_bit(neutral, family, dtype):
    """They switch the component on. (Forget momentum, growing weights and the adversary's: test_properties.py.)"""
    plain, weights = (
        run(method(target_modules=MODULES[family], unlearning_rate=0.1, **more), 2, model=model_of(family).to(dtype))[0]
        for more in ({}, neutral)
    )
    assert identical(weights, plain)


@pytest.mark.parametrize(
    "component",
    [
        {"forget_momentum": 0.5, "consensus_power": 2.0},
        {"ewc": {"strength": 100.0}},
        {"revert_below": 0.01},
        {"growing_weights": 0.0},
        {"backward": {"type": "fading", "factor": 0.5}},
        {"backward": "shrink_activations"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_components_count(component, dtype):
    plain, _ = run(method(unlearning_rate=0.1), model=model_of().to(dtype))
    weights, _ = run(method(unlearning_rate=0.1, **component), model=model_of().to(dtype))
    assert not identical(weights, plain)
    assert all(torch.isfinite(weight).all() and weight.dtype == dtype for weight in weights.values())


@pytest.mark.parametrize("gradient", ["hybrid", "fresh"])
def test_the_tweak_leaves_the_adversary_alone(gradient):
    """It is for the unlearning gradient: after one loop the adversary stands where it would have stood."""
    adversaries = []
    for backward in (None, {"type": "fading", "factor": 0.0}):
        model = model_of().train()
        spec = parse_as(MethodSpec, method(adversary={"gradient": gradient}, backward=backward), "method")
        running = Mudman(model, spec, Passes(model))
        running.step(iter(FORGET), iter(RETAIN))
        adversaries.append(running.adversary_state)
    plain, tweaked = adversaries
    assert all(torch.equal(a, b) for a, b in zip(plain, tweaked, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(plain, [w.data for w in running.weights], strict=True))


# ----------------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": "absolute", "forget_momentum": 0.5, "consensus_power": 2.0},
        {"mask": "compromise", "ewc": {}, "revert_below": 0.01},
        {"mask": {"type": "percentile", "warm_up": 3}, "representation_loss": {}},
    ],
    ids=lambda changes: str(changes["mask"]),
)
def test_a_run_goes_on_where_it_was_left(changes):
    spec = parse_as(MethodSpec, method(fork_every=3, **changes), "method")

    def running(model) -> Mudman:
        return Mudman(model, spec, Passes(model))

    def steps(run: Mudman, loops: range) -> None:
        for loop in loops:
            run.step(iter([FORGET[loop % len(FORGET)]]), iter([RETAIN[loop % len(RETAIN)]]))

    whole, parted = model_of().train(), model_of().train()
    steps(reference := running(whole), range(5))
    steps(first := running(parted), range(2))
    state = first.state()
    steps(first, range(2, 3))  # what comes after does not reach into the state
    second = model_of().train()
    steps(running(second), range(2))
    steps(continued := _loaded(running(second), state), range(2, 5))
    for run_ in (reference, continued):
        run_.finish()
    assert identical(snapshot(second), snapshot(whole))


def _loaded(run: Mudman, state: dict) -> Mudman:
    run.load(state)
    return run


# ----------------------------------------------------------------------------------------------------------- trace


@pytest.mark.parametrize(
    ("mask", "kept", "update_norm", "harmful"), [("sign", sqrt(0.5), 0.1, 0), ("none", 1, 0.1 * sqrt(2), 0.5)]
)
def test_trace(mask, kept, update_norm, harmful):
    """Retain (0,1), (1,1): g_r = (−¼, −¼). Forget (0,0), (1,1): g_u = (−¼, +¼), norm √2/4; normalised (−1, +1).

    Signs agree at w₀ alone; the mask leaves (−1, 0).
    """
    batches = [torch.tensor([(0, 0), (1, 1)])], [torch.tensor([(0, 1), (1, 1)])]
    settings = method(
        target_modules=["probe"],
        mask=mask,
        unlearning_rate=0.1,
        retaining_rate=0.0,
        retain_momentum=0.0,
        adversary={"type": "none"},
    )
    _, record = mudman.unlearn(TwoWeights(0, 0), *batches, settings, 4, trace=True)
    expected = {
        "loop": 0,
        "forget_loss": log(2),
        "retain_loss": log(2),
        "gradient_norm": sqrt(2) / 4,
        "retain_norm": sqrt(2) / 4,
        "update_norm": update_norm,
        "agreeing": 0.5,
        "kept": kept,
        "harmful": harmful,
    }
    found = {name: column[0] for name, column in record.trace.model_dump().items()}
    assert found == {name: pytest.approx(value, rel=1e-5, abs=1e-6) for name, value in expected.items()}


def test_harm_is_measured_against_this_loops_retain_gradient():
    """m = 0.9. Retain (0,1), then (0,0): g_r = −½, then +½ at w₀ = 0, and acc = −0.05, then +0.005.

    Forget (0,0), no update of rate 0 yet a direction: g_u = −½ agrees in loop 1, is masked in loop 2. Unmasked: all of
    the update harms in loop 2.
    """
    batches = [torch.tensor([(0, 0)])], [torch.tensor([(0, 1)]), torch.tensor([(0, 0)])]
    still = {"retaining_rate": 0.0, "retain_momentum": 0.9, "unlearning_rate": 0.0, "adversary": {"type": "none"}}
    traces = [
        mudman.unlearn(
            TwoWeights(0, 0), *batches, method(target_modules=["probe"], mask=mask, **still), 8, trace=True
        ).record.trace
        for mask in ("sign", "none")
    ]
    assert traces[0].kept == close(1, 0)
    assert traces[0].agreeing == traces[1].agreeing == close(0.5, 0)
    assert traces[1].harmful == close(0, 1)
    assert traces[0].harmful == close(0, 0)


@pytest.mark.parametrize("changes", [{}, {"ewc": {"strength": 10.0}}, {"adversary": {"gradient": "fresh"}}], ids=str)
def test_looking_changes_no_bit(changes):
    model = model_of()
    config = method(**changes)
    _, record = mudman.unlearn(model, FORGET, RETAIN, config, 3 * loop_passes(config), trace=True)
    assert identical(snapshot(model), run(config)[0])
    assert all(len(column) == 3 and None not in column for column in record.trace.model_dump().values())
