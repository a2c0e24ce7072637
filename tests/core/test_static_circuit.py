"""Locate the circuit once, on two weights (tests/core/two_weights.py) by hand, and on a small model by autograd.

At w = 0 the gradient of ``neg_cross_entropy`` on the sentence (s, 1) is 1/2 at w_s, and so is that of
``flipped_probability``. A circuit is rescaled to norm √2, there being two weights.
"""

import pytest
import torch
from short_runs import FORGET, RETAIN
from small_models import small_model, snapshot
from two_weights import TwoWeights, close

import mudman
from mudman.faults import SpecError
from mudman.losses import stream_activation

ROOT2 = 2**0.5


def run(model, forget: list, retain: list, loops: int, **settings):
    batches = ([torch.tensor(sequences) for sequences in stream] for stream in (forget, retain))
    fixed = {"type": "static_circuit", "target_modules": ["probe"], "retaining_rate": 0.0, "retain_momentum": 0.0}
    return mudman.unlearn(model, *batches, {**fixed, **settings}, 2 * loops)


def after(model, *args, **settings) -> list[float]:
    return run(model, *args, **settings).model.values()


def test_locating_leaves_the_model_and_every_loop_applies_the_same():
    """Sum of two equal gradients (1, 0) → (√2, 0); the weight's own gradient would change as it moves."""
    settings = {"locate_loops": 2, "mask": {"type": "none"}, "unlearning_rate": 1.0}
    for loops, moved in ((1, 0), (2, 0), (3, 1), (6, 4)):
        assert after(TwoWeights(0, 0), [[[0, 1]]], [[[1, 0]]], loops, **settings) == close(-moved * ROOT2, 0)


def test_batches_are_summed_with_their_signs():
    """(0, 1), (0, 1), (0, 0) give 1/2 + 1/2 − 1/2 at w₀; the fourth, (1, 0), gives −1/2 at w₁."""
    forget = [[[0, 1]], [[0, 1]], [[0, 0]], [[1, 0]]]
    found = after(TwoWeights(0, 0), forget, [[[0, 1]]], 5, locate_loops=4, mask={"type": "none"}, unlearning_rate=3.0)
    assert found == close(-3, 3)


@pytest.mark.parametrize(("retain", "moved"), [([0, 1], 0), ([0, 0], -ROOT2), ([1, 0], 0)])
def test_the_mask_is_on_the_sign_of_the_retain_accumulator(retain, moved):
    """Retain gradients at w₀: −1/2, +1/2, and none: only where it agrees with the circuit's + is anything unlearned."""
    assert after(TwoWeights(0, 0), [[[0, 1]]], [[retain]], 2, locate_loops=1, unlearning_rate=1.0) == close(moved, 0)


def test_the_retain_step_comes_first():
    """Momentum 1/2: accumulator (1/4, 0), retain step 2 · 1/4, then the circuit."""
    found = after(
        TwoWeights(0, 0),
        [[[0, 1]]],
        [[[0, 0]]],
        2,
        locate_loops=1,
        unlearning_rate=1.0,
        retaining_rate=2.0,
        retain_momentum=0.5,
    )
    assert found == close(-0.5 - ROOT2, 0)


def test_circuits_take_turns_and_mix_by_strength():
    """First batch: circuit 0, (√2, 0). Second: circuit 1, (0, √2), of strength −1/2. Third: circuit 0 again."""
    circuits = [{"loss": "neg_cross_entropy"}, {"loss": "flipped_probability", "strength": -0.5}]
    settings = {"circuits": circuits, "locate_loops": 3, "mask": {"type": "none"}, "unlearning_rate": 2.0}
    assert after(TwoWeights(0, 0), [[[0, 1]], [[1, 1]], [[0, 1]]], [[[0, 1]]], 4, **settings) == close(
        -2 * ROOT2, ROOT2
    )


def test_a_paused_loop_retains():
    settings = {"locate_loops": 1, "unlearning_rate": 1.0, "retaining_rate": 2.0, "mask": {"type": "none"}}
    fixed = {"type": "static_circuit", "target_modules": ["probe"], "retain_momentum": 0.0}
    model = TwoWeights(0, 0)
    batches = [torch.tensor([[0, 1]])], [torch.tensor([[1, 0]])]
    mudman.unlearn(model, *batches, {**fixed, **settings}, 4, check_every=2, pause_when=lambda point: True)
    assert model.values() == close(0, -1)


def test_a_circuit_that_vanishes_moves_nothing():
    """The entropy is at its largest where all weights are 0."""
    circuits = [{"loss": "neg_entropy"}]
    settings = {"circuits": circuits, "locate_loops": 1, "mask": {"type": "none"}, "unlearning_rate": 1.0}
    model, record = run(TwoWeights(0, 0), [[[0, 1]]], [[[0, 1]]], 3, **settings)
    assert model.values() == [0, 0]
    assert record.zero_norm_loops == 2


def test_more_circuits_than_loops_to_locate_them():
    circuits = [{"loss": "neg_cross_entropy"}] * 3
    with pytest.raises(SpecError, match="2 loops cannot locate 3 circuits") as caught:
        run(TwoWeights(0, 0), [[[0, 1]]], [[[0, 1]]], 3, circuits=circuits, locate_loops=2, unlearning_rate=1.0)
    (fault,) = caught.value.faults
    assert (fault.path, fault.remedy) == ("method.locate_loops", "give at least one loop for each")


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_stream_deactivation(family):
    """The circuit is the gradient of the stream's size on the original model; applying it makes the stream smaller."""
    model = small_model(family)
    name = {"llama": "down_proj", "neox": "dense_4h_to_h"}[family]
    weights = {n: p for n, p in model.named_parameters() if n.endswith(f"{name}.weight")}
    size = sum(stream_activation(model(input_ids=b, output_hidden_states=True).hidden_states) for b in FORGET[:2])
    # The last state is left out, so that the last layer's weights have no part in it.
    gradients = torch.autograd.grad(size, list(weights.values()), allow_unused=True, materialize_grads=True)
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    count = sum(g.numel() for g in gradients)
    before = snapshot(model)

    settings = {
        "type": "static_circuit",
        "target_modules": [name],
        "circuits": [{"loss": "stream_activation"}],
        "locate_loops": 2,
        "mask": {"type": "none"},
        "unlearning_rate": 1e-3,
        "retaining_rate": 0.0,
    }
    mudman.unlearn(model, FORGET[:2], RETAIN, settings, 2 * 5)
    for (n, weight), gradient in zip(weights.items(), gradients, strict=True):
        expected = before[n] - 3 * 1e-3 * gradient * count**0.5 / norm
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)
    now = sum(stream_activation(model(input_ids=b, output_hidden_states=True).hidden_states) for b in FORGET[:2])
    assert now < size
