"""Memory of unlearning, as published: the model and three times its intervened weights (arXiv 2506.12484).

Adversary, accumulator and one gradient. On top come the activations of one forward, measured here, and the temporaries
of one tensor at a time.
"""

import pytest
import torch
from live_memory import LiveMemory
from small_models import distance, small_model, snapshot, token_batches

import mudman

# Wide MLP layers and a batch of three tokens: four intervened tensors of 1 MiB weigh far more than the activations.
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
FORGET, RETAIN = token_batches(1, 2, size=1, length=3), token_batches(2, 2, size=1, length=3)
GRADIENTS = ("hybrid", "reuse", "fresh")
TEMPORARIES = 2.5
"""Tensors' worth of temporaries, for one intervened tensor at a time: two signs and a mask of bytes."""


def inputs(model) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers(), *FORGET, *RETAIN]


def activations(model, target: str) -> int:
    """Peak bytes of one forward with its graph."""
    for name, p in model.named_parameters():
        p.requires_grad_(f"{target}.weight" in name)
    with LiveMemory(inputs(model)) as memory:
        loss = model(input_ids=FORGET[0], labels=FORGET[0], use_cache=False).loss
    assert loss.requires_grad
    return memory.peak


def peak(model, **changes) -> int:
    config = {
        "type": "mudman",
        "target_modules": ["gate_proj"],
        "unlearning_rate": 0.01,
        "retaining_rate": 0.01,
        "adversary_rate": 0.01,
        "fork_every": 1,
        **changes,
    }
    before = snapshot(model)
    per_loop = 4 + (config.get("adversary", {}).get("type") != "none") + ("representation_loss" in config)
    with LiveMemory(inputs(model)) as memory:
        mudman.unlearn(model, FORGET, RETAIN, config, 2 * per_loop)
    assert distance(snapshot(model), before) > 0
    return memory.peak


@pytest.fixture(scope="module")
def sizes():
    model = small_model("llama", **WIDE)
    weights = [p for name, p in model.named_parameters() if "gate_proj" in name]
    return {
        "intervened": sum(p.nbytes for p in weights),
        "tensor": weights[0].nbytes,
        "activations": activations(model, "gate_proj"),
    }


def test_the_ruler(sizes):
    """What is counted, on allocations known beforehand: views and in-place changes are free, the dead leave."""
    given = torch.zeros(1000)
    with LiveMemory([given]) as memory:
        a = given + 1
        a.view(10, 100).mul_(2)
        given.add_(1)
        assert memory.peak == 4000
        del a
        b = torch.cat([given, given])
        assert memory.peak == 8000
        c = b.clone()
        assert memory.peak == 16000
        del b, c
        d = given.clone()
        assert memory.peak == 16000
        del d
    assert sizes["activations"] < 0.25 * sizes["intervened"], "the intervened weights must dominate"


@pytest.mark.parametrize("loss", ["neg_cross_entropy", "neg_entropy"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_three_times_the_intervened_weights(sizes, gradient, loss):
    adversary = {"gradient": gradient, "decay": 0.9, "update": 0.1}
    used = peak(small_model("llama", **WIDE), adversary=adversary, loss=loss, growing_weights=0.5)
    allowed = 3 * sizes["intervened"] + sizes["activations"] + TEMPORARIES * sizes["tensor"]
    ratio = (used - sizes["activations"]) / sizes["intervened"]
    assert used <= allowed, f"{ratio:.2f} times the intervened weights beside the activations"


def test_two_times_without_adversary(sizes):
    """Accumulator and gradient only."""
    used = peak(small_model("llama", **WIDE), adversary={"type": "none"})
    assert used <= 2 * sizes["intervened"] + sizes["activations"] + TEMPORARIES * sizes["tensor"]


@pytest.mark.parametrize("mask", ["none", "agem"])
def test_masks_without_accumulators_need_no_more(sizes, mask):
    used = peak(small_model("llama", **WIDE), mask=mask)
    assert used <= 3 * sizes["intervened"] + sizes["activations"] + TEMPORARIES * sizes["tensor"]


@pytest.mark.parametrize(
    "extra",
    [{"forget_momentum": 0.5, "consensus_power": 2.0}, {"representation_loss": {}}, {"revert_below": 1e-9}],
    ids=lambda extra: next(iter(extra)),
)
def test_four_times_with_a_fourth_state(sizes, extra):
    """Forget accumulator, or the original weights (and, to compare states, the activations of two more forwards)."""
    used = peak(small_model("llama", **WIDE), adversary={"gradient": "hybrid"}, **extra)
    assert used <= 4 * sizes["intervened"] + 3 * sizes["activations"] + TEMPORARIES * sizes["tensor"]


@pytest.mark.parametrize("extra", [{"ewc": {}}, {"mask": "compromise"}], ids=lambda extra: next(iter(extra)))
def test_five_times_with_two_more(sizes, extra):
    """Importance and original weights, or two accumulators."""
    used = peak(small_model("llama", **WIDE), **extra)
    assert used <= 5 * sizes["intervened"] + sizes["activations"] + (TEMPORARIES + 1) * sizes["tensor"]


def test_the_attack_on_a_large_model_holds_one_gradient_at_a_time_and_does_the_same(monkeypatch):
    def attacked() -> tuple[int, dict[str, torch.Tensor]]:
        model = small_model("llama", **WIDE)
        with LiveMemory(inputs(model)) as memory:
            mudman.relearn(model, FORGET, {"rate": 0.01, "passes": 4})
        return memory.peak, snapshot(model)

    swept, expected = attacked()
    monkeypatch.setattr("mudman.sizes.LARGE", 0)
    spent, weights = attacked()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    size = sum(weight.nbytes for weight in weights.values())
    assert swept - spent > 0.7 * size
