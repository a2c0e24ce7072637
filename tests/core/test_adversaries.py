"""Who the adversary is: turns of several, and adapters that come and go."""

from math import exp

import pytest
import torch
from method_runs import FORGET, RETAIN, Run, bare, continues, everywhere, stopped_everywhere, unlearned
from small_models import MODULES, identical, small_model, snapshot
from transformers import GPT2Config, GPT2LMHeadModel
from two_weights import LN3, TwoWeights, close
from two_weights import unlearned as two_weights

import mudman
from mudman.adversaries import _due
from mudman.faults import SpecError
from mudman.passes import Passes
from mudman.specs import MudmanSpec

GRADIENTS = ("hybrid", "reuse", "fresh")


def method(family: str = "llama", **changes) -> dict:
    rates = {"unlearning_rate": 0.02, "retaining_rate": 0.05, "adversary_rate": 0.1, "fork_every": 2}
    return {"type": "mudman", "target_modules": MODULES[family], **rates, **changes}


def lora(**settings) -> dict:
    return {"type": "lora", "rank": 2, **settings}


def due(amount: int, fork_every: float, loops: int) -> dict[int, list[int]]:
    spec = MudmanSpec(**method(adversary={"amount": amount}, fork_every=fork_every))
    return {loop: turns for loop in range(loops) if (turns := _due(loop, spec))}


@pytest.mark.parametrize(
    ("amount", "fork_every", "expected"),
    [
        (1, 4.0, {0: [0], 4: [0], 8: [0]}),
        (1, 3.9, {0: [0], 3: [0], 6: [0], 9: [0]}),
        (2, 8.0, {0: [0, 1], 4: [1], 8: [0]}),
        (3, 12.0, {0: [0, 1, 2], 4: [1], 8: [2]}),
        (3, 13.0, {0: [0, 1, 2], 4: [1], 8: [2]}),
        (3, 2.0, {0: [0, 1, 2], **{loop: [loop % 3] for loop in range(1, 10)}}),
    ],
)
def test_whose_turn_it_is_to_be_renewed(amount, fork_every, expected):
    assert due(amount, fork_every, 10) == expected


@pytest.mark.parametrize(
    ("share", "loops", "expected"), [(0.0, 4, 6 + 4 * 81 / 82), (1.0, 3, 5.6 + 4 / (1 + exp(-5.6 * LN3)))]
)
def test_two_forks_take_turns(share, loops, expected):
    """Forget (0,0), adversary rate 0, rate 4 ln 3, at w₀ = k ln 3: g_u = −1/(1 + 3^−k), worth 2 ln 3 at k = 0.

    Interval 4/2: both forked at loop 0, the second again at loop 2. Loops 0 to 2 see forks at 0 (the first, the second,
    the first) and add 2 ln 3 each; loop 3 sees the second, forked at 4 ln 3: 4 · 81/82. Where both get the whole update
    it is as if they were forked anew each time: 2, then 3.6 more, then 4/(1 + 3^−5.6).
    """
    weights = two_weights(
        TwoWeights(0, 0),
        [[(0, 0)]],
        [[(0, 1)]],
        loops=loops,
        unlearning_rate=4 * LN3,
        fork_every=4,
        mask="none",
        normalization="none",
        adversary={"gradient": "reuse", "amount": 2, "update": share},
    )
    assert weights == close(expected * LN3, 0)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_adapters_by_hand(gradient):
    """Forget (0,0), retain (0,1). With the adapter z = w₀ + 8 b a₀, so ∂CE/∂b = 8 a₀ p and ∂CE/∂a₀ = 8 b p.

    The retain step sees w₀ alone. The unlearning gradient on w₀ is −p: at the adapter before its step (reuse, and
    hybrid with one layer) or after (fresh). Decay shrinks a and b.
    """
    settings = {"target_modules": ["probe"], "mask": "none", "normalization": "none", "retain_momentum": 0.0}
    rates = {"unlearning_rate": 0.5, "retaining_rate": 0.3, "adversary_rate": 0.2, "fork_every": 8}
    config = {"type": "mudman", **settings, **rates, "adversary": {**lora(gradient=gradient, decay=0.9), "rank": 1}}
    model = TwoWeights(0, 0)
    spec = MudmanSpec(**config)
    probe = mudman.methods.METHODS["mudman"](TwoWeights(0, 0), spec, Passes(model))
    probe.adversary.renew(0)
    a, b, w = probe.adversary.weights[0][0, 0].item(), 0.0, 0.0

    def p(z: float) -> float:
        return 1 / (1 + exp(-z))

    for _ in range(2):
        w -= 0.3 * (p(w) - 1)
        before = p(w + 8 * a * b)
        a, b = 0.9 * (a - 0.2 * 8 * b * before), 0.9 * (b - 0.2 * 8 * a * before)
        w += 0.5 * (p(w + 8 * a * b) if gradient == "fresh" else before)
    forget, retain = [torch.tensor([(0, 0)])], [torch.tensor([(0, 1)])]
    mudman.unlearn(model, forget, retain, config, 10)
    assert model.values() == close(w, 0)


@everywhere
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_adapters_leave_nothing_and_only_targets_move(gradient, family, dtype):
    model = small_model(family).to(dtype)
    before, names = snapshot(model), list(snapshot(model))
    config = method(family, adversary=lora(gradient=gradient, amount=2, decay=0.9), loss="neg_entropy")
    after, record = unlearned(model, config, loops=3)
    assert list(after) == names
    assert bare(model)
    moved = {name for name in names if not torch.equal(after[name], before[name])}
    assert moved == set(record.intervened)
    assert all(weight.isfinite().all() for weight in after.values())
    assert record.passes_made == 3 * (6 if gradient == "fresh" else 5)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_adapters_step_leaves_the_model_alone(gradient):
    model = small_model("llama")
    before = snapshot(model)
    config = method(adversary=lora(gradient=gradient), unlearning_rate=0.0, retaining_rate=0.0, adversary_rate=1.0)
    after, _ = unlearned(model, config, loops=3)
    assert identical(after, before)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("loss", ["neg_cross_entropy", "neg_entropy"])
def test_adapters_that_never_learn_are_no_adversary(gradient, loss):
    """B stays zero, so that the model with them is the model: bit for bit."""
    with_adapters = method(adversary=lora(gradient=gradient), adversary_rate=0.0, loss=loss)
    without = method(adversary={"type": "none"}, loss=loss)
    ours, _ = unlearned(small_model("llama"), with_adapters, loops=3)
    theirs, _ = unlearned(small_model("llama"), without, loops=3)
    assert identical(ours, theirs)


def test_adapters_that_learn_change_what_is_unlearned():
    results = [
        unlearned(small_model("llama"), method(adversary=adversary), loops=3)[0]
        for adversary in ({"type": "none"}, lora(), lora(amount=2), lora(decay=0.5), lora(rank=4), {"type": "fork"})
    ]
    assert not any(identical(a, b) for i, a in enumerate(results) for b in results[:i])


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_stop_order_finds_no_adapters(gradient):
    config = method(adversary=lora(gradient=gradient), loss="neg_entropy")
    left = stopped_everywhere(lambda: small_model("llama"), config)
    assert len(left) == (6 if gradient == "fresh" else 5)
    assert all(bare(model) for model in left)


@pytest.mark.parametrize("adversary", [lora(amount=2), {"amount": 2}, {}], ids=["lora", "forks", "fork"])
def test_a_continued_run_is_the_whole_run(adversary):
    config = method(adversary={**adversary, "update": 0.0 if "type" in adversary else 0.3}, fork_every=3)
    assert continues(lambda: small_model("neox"), config | {"target_modules": MODULES["neox"]})


def test_paused_forks_go_on_and_nothing_is_trained():
    model = small_model("llama")
    run = Run(model, method(adversary={"amount": 2}, retaining_rate=0.0))
    before = run.method.state()["adversary_state"]
    run.method.step(iter(FORGET), iter(RETAIN), paused=True)
    assert all(torch.equal(a, b) for a, b in zip(run.method.adversary.state(), before, strict=True))
    with torch.no_grad():
        run.method.base[0].add_(1.0)
    run.method.step(iter(FORGET), iter(RETAIN), paused=True)  # interval 1: the second's turn
    first, second = run.method.adversary.copies
    assert torch.equal(second[0], run.method.base[0])
    assert not torch.equal(first[0], run.method.base[0])


def test_adapters_on_other_layers_are_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=16, n_embd=4, n_layer=1, n_head=1))
    with pytest.raises(SpecError) as refusal:
        unlearned(model, method() | {"target_modules": ["c_fc"], "adversary": lora()}, loops=1)
    assert [fault.path for fault in refusal.value.faults] == ["method.adversary.type"]
