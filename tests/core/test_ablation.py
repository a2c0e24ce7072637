"""Ablation of neurons and weights by importance, worked by hand on one layer (tests/core/toy_layers.py)."""

import pytest
import torch
from small_models import small_model, snapshot, token_batches
from toy_layers import GatedMlp, PlainMlp, ToyModel
from two_weights import LN3, TwoWeights, close

import mudman
from mudman.faults import SpecError
from mudman.methods.weight_ablation import WeightAblation
from mudman.modules import matching_weights
from mudman.passes import Passes
from mudman.specs import parse_as
from mudman.specs.methods import MethodSpec

# ----------------------------------------------------------------------------------------------------------- neurons

SECOND = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def neurons_ablated(share: float, factor: float, forget: list, retain: list, first=((3, 1), (1, 2), (0, 0))) -> list:
    """The second layer after ablation. A neuron's activation on token t stands in column t of ``first``."""
    model = ToyModel(PlainMlp(first, SECOND))
    settings = {"type": "neuron_ablation", "target_modules": ["group:down"], "share": share, "factor": factor}
    batches = [torch.tensor(b) for b in forget], [torch.tensor(b) for b in retain]
    mudman.unlearn(model, *batches, settings, 2 * len(forget))
    return model.layers[0].mlp.dense_4h_to_h.weight.tolist()


@pytest.mark.parametrize(
    ("share", "factor", "expected"),
    [
        (0.0, 0.0, SECOND),
        (1 / 3, 0.0, [[0, 2, 3], [0, 5, 6]]),
        (1 / 3, -0.5, [[-0.5, 2, 3], [-2, 5, 6]]),
        (2 / 3, 0.0, [[0, 0, 3], [0, 0, 6]]),
        (1.0, 1.0, SECOND),
    ],
)
def test_neurons_of_the_highest_ratio(share, factor, expected):
    """Forgetting reads token 0: squares 9, 1, 0; retaining token 1: 1, 4, 0. Ratios 9, 1/4, and 0 of the silent one."""
    assert neurons_ablated(share, factor, [[[0, 0]]], [[[1, 1]]]) == expected


@pytest.mark.parametrize("forget", [[[[0, 1]]], [[[0, 0]], [[1, 1]]]], ids=["one loop", "two loops"])
def test_activations_are_squared_before_the_mean_over_tokens_and_loops(forget):
    """Mean squares 5 and 10 over 1 and 4 when retaining: ratios 5 and 5/2; squared means would give 1 and 9/4."""
    assert neurons_ablated(1 / 3, 0.0, forget, [[[0, 0]]], ((1, -3), (2, 4), (1, 1)))[0] == [0, 2, 3]


def test_a_neuron_that_only_forgetting_uses_comes_first():
    assert neurons_ablated(1 / 3, 0.0, [[[0, 0]]], [[[1, 1]]], ((9, 1), (1, 2), (0.1, 0)))[1] == [4, 5, 0]


def test_layers_are_ranked_together():
    """On a model of two layers, one share of all neurons is taken, not of each layer."""
    model = small_model("llama")
    with torch.no_grad():  # what the second layer's neurons do is alike on all tokens, as the norm gives a constant
        model.model.layers[1].post_attention_layernorm.weight.zero_()
    before = snapshot(model)
    settings = {"type": "neuron_ablation", "target_modules": ["group:down"], "share": 0.25}
    mudman.unlearn(model, token_batches(1, 1), token_batches(2, 1), settings, 2)
    zeroed = [int((layer.mlp.down_proj.weight == 0).all(0).sum()) for layer in model.model.layers]
    assert zeroed == [20, 0]
    assert all((before[n] != 0).any(0).all() for n in before if "down_proj" in n)


@pytest.mark.parametrize(("family", "target"), [("llama", "gate_proj"), ("neox", "attention.dense")])
def test_only_second_layers_have_neurons_for_inputs(family, target):
    settings = {"type": "neuron_ablation", "target_modules": [target]}
    with pytest.raises(SpecError, match=f"{target} is no second MLP layer") as caught:
        mudman.unlearn(small_model(family), token_batches(1, 1), token_batches(2, 1), settings, 2)
    assert [(f.path, f.remedy) for f in caught.value.faults] == [("method.target_modules", "take group:down")]


# ----------------------------------------------------------------------------------------- weights, by their gradients


@pytest.mark.parametrize(("ratio", "first"), [(3.9, -2 * LN3), (4.1, LN3)])
def test_weights_by_absolute_gradients(ratio, first):
    """At ln 3 (p = 3/4) the forget gradients at w₀ are −1/4 and 3/4 in two loops: 1 in absolute values. The retain
    gradients are −1/8 at both weights in each loop: 1/4. The ratio is 4 at w₀ and 0 at w₁."""
    model = TwoWeights(LN3, LN3)
    batches = [torch.tensor([[0, 1]]), torch.tensor([[0, 0]])], [torch.tensor([[0, 1], [1, 1]])]
    settings = {"type": "weight_ablation", "target_modules": ["probe"], "ratio": ratio, "factor": -2.0}
    _, record = mudman.unlearn(model, *batches, settings, 8)
    assert model.values() == close(first, LN3)
    assert record.passes_made == 8


def test_a_weight_that_matters_to_neither_stays():
    model = TwoWeights(LN3, LN3)
    batches = [torch.tensor([[0, 1]])], [torch.tensor([[0, 1]])]
    settings = {"type": "weight_ablation", "target_modules": ["probe"], "ratio": 0.0, "factor": 0.0}
    mudman.unlearn(model, *batches, settings, 4)
    assert model.values() == close(0, LN3)


# -------------------------------------------------------------------------------------- weights, by their activations


def importances(model, targets: list[str], forget, retain) -> tuple[list, list]:
    settings = {"type": "weight_ablation", "target_modules": targets, "importance": "activation"}
    method = WeightAblation(model, parse_as(MethodSpec, settings, "method"), Passes(model))
    method.step(iter([forget]), iter([retain]))
    return method.forget_importance, method.retain_importance


def test_importance_of_gate_and_up_by_hand():
    """act(z) = z². Token 0: gate 2, up 3: (2²)² = 16 for up, (3 · 2 · 2)² = 144 for gate; token 1: gate 1, up −1:
    1 and 4. A token's input is one-hot, so that each falls to its own column; the mean is over the tokens."""
    model = ToyModel(GatedMlp([[2, 1]], [[3, -1]], [[1], [1]]))
    forget, retain = importances(model, ["gate_proj", "up_proj"], torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))
    assert [g.tolist() for g in forget] == [[[144, 0]], [[16, 0]]]
    assert [g.tolist() for g in retain] == [[[72, 2]], [[8, 0.5]]]
    (up,), _ = importances(model, ["up_proj"], torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))
    assert up.tolist() == [[16, 0]]


@pytest.mark.parametrize(("ratio", "expected"), [(1.9, [[-9, -1]]), (2.1, [[3, -1]])])
def test_weights_by_activations(ratio, expected):
    model = ToyModel(GatedMlp([[2, 1]], [[3, -1]], [[1], [1]]))
    batches = [torch.tensor([[0, 0]])], [torch.tensor([[0, 1]])]
    settings = {"type": "weight_ablation", "target_modules": ["up_proj"], "importance": "activation", "ratio": ratio}
    _, record = mudman.unlearn(model, *batches, settings, 2)
    assert model.layers[0].mlp.up_proj.weight.tolist() == expected
    assert model.layers[0].mlp.gate_proj.weight.tolist() == [[2, 1]]
    assert record.passes_made == 2


def test_importance_is_the_squared_derivative_of_the_neuron():
    """By autograd, token by token, with the activation of a real Llama."""
    model = small_model("llama")
    (forget,), (retain,) = token_batches(1, 1), token_batches(2, 1)
    weights = matching_weights(model, ("gate_proj", "up_proj"))
    found, _ = importances(model, ["gate_proj", "up_proj"], forget, retain)
    mlp, inputs = model.model.layers[0].mlp, []
    hook = mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().flatten(0, 1)))
    model(input_ids=forget)
    hook.remove()
    expected = [torch.zeros_like(mlp.gate_proj.weight) for _ in range(2)]
    for x in inputs[0]:
        neurons = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
        each = torch.autograd.grad(neurons.sum(), [mlp.gate_proj.weight, mlp.up_proj.weight])
        expected = [total + g.square() / len(inputs[0]) for total, g in zip(expected, each, strict=True)]
    assert list(weights)[:2] == [f"model.layers.0.mlp.{name}.weight" for name in ("gate_proj", "up_proj")]
    for importance, wanted in zip(found, expected, strict=False):
        torch.testing.assert_close(importance, wanted)


@pytest.mark.parametrize(
    ("family", "targets", "path"),
    [
        ("neox", ["group:first_mlp"], "method.importance"),
        ("llama", ["up_proj", "down_proj"], "method.target_modules"),
    ],
)
def test_activations_are_for_the_first_layers_of_gated_mlps(family, targets, path):
    settings = {"type": "weight_ablation", "target_modules": targets, "importance": "activation"}
    with pytest.raises(SpecError) as caught:
        mudman.unlearn(small_model(family), token_batches(1, 1), token_batches(2, 1), settings, 2)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert "importance: gradient" in fault.remedy
