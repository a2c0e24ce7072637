"""Tweaks of the backward pass: gradients worked by hand, definitions checked by autograd, nothing left behind.

The toy layer reads h = (1, 2), its norm doubles (x = (2, 4)), W₁ = [[1, 0], [1, 1]], W₂ = [[1, 2], [0, 1]]. The loss is
3 · out₀ + 4 · out₁, so that the gradient leaving the layer is r = (3, 4), of norm 5. Then W₂ᵀ r = (3, 10) is what
W₂ sends on, and W₁ᵀ (3, 10) = (13, 10) what W₁ does.
"""

import pytest
import torch
from short_runs import FORGET, method, run
from small_models import VOCABULARY, identical, small_model
from torch import nn
from toy_layers import PlainMlp, ToyModel, linear
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from mudman.backward import tweaked
from mudman.faults import SpecError
from mudman.losses import cross_entropy
from mudman.modules import layers, matching_weights
from mudman.specs import parse_as
from mudman.specs.components import Backward

FIRST, SECOND = "layers.0.mlp.dense_h_to_4h.weight", "layers.0.mlp.dense_4h_to_h.weight"
H = [[[1.0, 2.0]]]
PLAIN = {FIRST: [[6, 12], [20, 40]], SECOND: [[6, 18], [8, 24]], "h": [29, 24]}
PLACES = ("module", "before_norm", "residual")


def toy(second=((1, 2), (0, 1))) -> ToyModel:
    return ToyModel(PlainMlp([[1, 0], [1, 1]], second), scale=2)


def spec_of(backward):
    return None if backward is None else parse_as(Backward, backward, "method.backward")


def gradients(backward, model: ToyModel, h=H, off: bool = False) -> dict[str, list]:
    """By weight, and for the layer's input h."""
    states = torch.tensor(h, requires_grad=True)
    wanted = {FIRST: model.get_parameter(FIRST), SECOND: model.get_parameter(SECOND), "h": states}
    tweak = tweaked(model, [FIRST, SECOND], spec_of(backward))
    with tweak:
        loss = (model.layers[0](states) @ torch.tensor([3.0, 4.0])).sum()
        if off:
            with tweak.off():
                found = torch.autograd.grad(loss, list(wanted.values()))
        else:
            found = torch.autograd.grad(loss, list(wanted.values()))
    return {name: g.squeeze().tolist() for name, g in zip(wanted, found, strict=True)}


def close(expected):
    return {name: [pytest.approx(row, rel=1e-6) for row in rows] for name, rows in expected.items()}


def test_no_tweak():
    assert gradients(None, toy()) == PLAIN


@pytest.mark.parametrize(
    ("backward", "changed"),
    [
        ({"type": "misalign"}, {SECOND: [[1.8, 6], [2.4, 8]]}),  # r ⊗ (3, 10) / 5
        ({"type": "tweak_first", "place": "module"}, {FIRST: [[39, 30], [130, 100]]}),  # (3, 10) ⊗ (13, 10)
        ({"type": "tweak_first", "place": "before_norm"}, {FIRST: [[156, 120], [520, 400]]}),  # … ⊗ 2 · 2 · (13, 10)
        # … ⊗ 2 · (r + 2 · (13, 10)) = 2 · (29, 24)
        ({"type": "tweak_first", "place": "residual"}, {FIRST: [[174, 144], [580, 480]]}),
        # W₁ x = (2, 6) and W₂ W₁ x = (14, 6) have the signs of their gradients: descent shrinks them all
        ({"type": "shrink_activations"}, {}),
        ({"type": "fading", "factor": 0.5}, {"h": [16, 14]}),  # r + (26, 20) / 2: the residual path is whole
        ({"type": "fading", "factor": 0.5, "mlp": False, "attention": True}, {}),
    ],
    ids=str,
)
def test_hand_worked(backward, changed):
    model = toy()
    found = gradients(backward, model)
    flat = close({name: rows if name != "h" else [rows] for name, rows in {**PLAIN, **changed}.items()})
    assert {name: rows if name != "h" else [rows] for name, rows in found.items()} == flat
    assert gradients(backward, model, off=True) == PLAIN
    assert gradients(None, model) == PLAIN


def test_attention_fades_where_it_is_asked_to():
    """Attention [[1, 0], [0, 2]] sends back (3, 8) beside the residual path's (3, 4) and the MLP's (26, 20)."""
    model = toy()
    model.layers[0].attention.dense.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = gradients({"type": "fading", "factor": 0.5, "attention": True}, model)["h"]
    assert found == [3 + 13 + 1.5, 4 + 10 + 4]
    assert gradients({"type": "fading", "factor": 0.5, "mlp": False, "attention": True}, model)["h"] == [
        3 + 26 + 1.5,
        4 + 20 + 4,
    ]


def test_misaligning_positive_entries_only():
    """W₂ = [[1, −2], [0, 1]] sends (3, −2); in the second token h = (−1, 2) makes the first neuron negative."""
    model = toy(((1, -2), (0, 1)))
    backward = {"type": "misalign", "positive_only": True}
    assert gradients(backward, model)[SECOND] == [pytest.approx([1.8, 0]), pytest.approx([2.4, 0])]
    assert gradients(backward, model, [[[1.0, 2.0], [-1.0, 2.0]]])[SECOND] == [
        pytest.approx([1.8, 0]),
        pytest.approx([2.4, 0]),
    ]
    backward = {"type": "misalign"}  # both tokens count, whatever their input
    assert gradients(backward, model, [[[1.0, 2.0], [-1.0, 2.0]]])[SECOND] == [
        pytest.approx([3.6, -2.4]),
        pytest.approx([4.8, -3.2]),
    ]


@pytest.mark.parametrize("growing", [0.0, 0.25])
def test_activations_only_shrink(growing):
    """Outputs 2, −1, 0 with gradient 1 each: a descent step shrinks the first and grows the others."""
    layer = nn.Sequential(linear([[2], [-1], [0]]))
    x = torch.ones(1, 1, requires_grad=True)
    with tweaked(layer, ["0.weight"], spec_of({"type": "shrink_activations", "growing": growing})):
        weight, back = torch.autograd.grad(layer(x).sum(), [layer[0].weight, x])
    assert weight.flatten().tolist() == [1, growing, growing]
    assert back.item() == 2 - growing


# ------------------------------------------------------------------------------------ the definitions, on real norms


def gemma() -> torch.nn.Module:
    """Its MLP's output passes a norm of its own before it joins the residual stream."""
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.25}
    return Gemma3ForCausalLM(Gemma3TextConfig(**shape, **heads, bos_token_id=0, eos_token_id=1, pad_token_id=2))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", ["llama", "neox", "gemma3"])
def test_first_layers_have_the_gradient_of_half_the_squared_norm(family, place):
    """∂/∂W of ½ ‖g‖² by autograd through the norm of the model, output gradients and residual gradient held fixed."""
    model = (gemma() if family == "gemma3" else small_model(family)).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layernorm" in name:
                p.add_(torch.rand_like(p))
    weights = matching_weights(model, ("group:first_mlp",))
    parts = layers(model)
    seen: dict[tuple[int, str], torch.Tensor] = {}

    def keep(key):
        def hook(_module, args, output):
            seen[key, "in"] = args[0].detach()
            output.register_hook(lambda g: seen.__setitem__((key, "gradient"), g))

        return hook

    hooks = [
        module.register_forward_hook(keep((index, name)))
        for index, part in enumerate(parts)
        for name, module in (("first", part.first_mlp[0]), ("norm", part.mlp_norm), ("layer", part.layer))
    ]
    tweak = tweaked(model, list(weights), spec_of({"type": "tweak_first", "place": place}))
    with tweak:
        found = torch.autograd.grad(cross_entropy(model(input_ids=FORGET[0]).logits, FORGET[0]), weights.values())
    for hook in hooks:
        hook.remove()

    for index, (part, weight, tweaked_gradient) in enumerate(zip(parts, weights.values(), found, strict=True)):
        leaf = weight.detach().clone().requires_grad_(True)
        sent = seen[(index, "first"), "gradient"] @ leaf
        if place != "module":
            h = seen[(index, "norm"), "in"].clone().requires_grad_(True)
            (sent,) = torch.autograd.grad(part.mlp_norm(h), h, sent, create_graph=True)
        if place == "residual":
            sent = sent + seen[(index, "layer"), "gradient"]
        (expected,) = torch.autograd.grad(sent.square().sum() / 2, leaf)
        # the norm of Llama computes in float32 whatever it is given, and so does the loss
        torch.testing.assert_close(tweaked_gradient, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


# -------------------------------------------------------------------------------------------- within the whole loop


@pytest.mark.parametrize("adversary", [{"type": "none"}, {"gradient": "hybrid"}, {"gradient": "fresh"}], ids=str)
@pytest.mark.parametrize(
    "neutral",
    [{"type": "fading", "factor": 1.0, "attention": True}, {"type": "shrink_activations", "growing": 1.0}],
    ids=lambda backward: backward["type"],
)
def test_neutral_tweaks_are_plain_mudman(adversary, neutral):
    config = method(adversary=adversary)
    assert identical(run({**config, "backward": neutral})[0], run(config)[0])


@pytest.mark.parametrize("backward", [{"type": "misalign"}, {"type": "tweak_first", "place": "residual"}], ids=str)
def test_a_graph_kept_over_a_step_of_the_weights_reads_the_new_ones(backward):
    """As a plain linear layer does: the published gradient mixes old activations with new weights."""
    results = []
    for active in (None, backward):
        model = small_model("llama")
        weights = matching_weights(model, ("gate_proj", "down_proj"))
        adversary = [w.data.clone() for w in weights.values()]
        for weight, values in zip(weights.values(), adversary, strict=True):
            weight.data = values
        tweak = tweaked(model, list(weights), spec_of(active))
        with tweak, tweak.off():
            loss = cross_entropy(model(input_ids=FORGET[0]).logits, FORGET[0])
            first = torch.autograd.grad(loss, weights.values(), retain_graph=True)
            torch._foreach_add_(adversary, first, alpha=-1.0)
            results.append([*first, *torch.autograd.grad(-loss, weights.values())])
    assert all(torch.equal(plain, kept) for plain, kept in zip(*results, strict=True))
    assert not torch.allclose(results[0][0], -results[0][2], rtol=1e-3), "the step is seen"


def test_an_error_inside_leaves_no_hook():
    model = toy()
    for backward in ("fading", "misalign", {"type": "tweak_first", "place": "residual"}, "shrink_activations"):
        tweak = tweaked(model, [FIRST, SECOND], spec_of(backward))
        with pytest.raises(ZeroDivisionError), tweak:
            model.layers[0](torch.tensor(H))
            raise ZeroDivisionError
    assert gradients(None, model) == PLAIN
    assert not any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("backward", "model", "names", "message"),
    [
        ("misalign", toy(), [FIRST], "second MLP layers"),
        ("tweak_first", toy(), [SECOND], "first MLP layers"),
        ("fading", nn.Sequential(nn.Linear(1, 1)), ["0.weight"], "the parts of a layer"),
    ],
)
def test_what_does_not_fit_is_refused(backward, model, names, message):
    with pytest.raises(SpecError, match=message) as caught:
        tweaked(model, names, spec_of(backward))
    (fault,) = caught.value.faults
    assert fault.path == "method.backward"
    assert fault.remedy
