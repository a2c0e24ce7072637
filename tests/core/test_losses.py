"""Unlearning losses and their gradients, worked by hand in each docstring. Position 0 counts; t is the next token."""

from itertools import product
from math import atan, log, pi

import pytest
import torch
from short_runs import method, model_of, run
from small_models import identical, snapshot, token_batches

from mudman.losses import (
    biased_entropy,
    correct_logit,
    cross_entropy,
    flipped_probability,
    needs_hidden_states,
    neg_cross_entropy,
    neg_entropy,
    soft_cross_entropy,
    soft_logit,
    stream_activation,
    unlearning_loss,
)
from mudman.specs import parse_as
from mudman.specs.losses import Loss

LN2, LN3 = log(2), log(3)
LOSSES = (
    "neg_cross_entropy",
    "neg_entropy",
    "correct_logit",
    "stream_activation",
    "biased_entropy",
    "flipped_probability",
    "soft_cross_entropy",
    "soft_logit",
)


def worked(loss, *logits: float, t: int, **settings) -> tuple[float, list[float]]:
    """The loss, and its gradient at position 0. The last position has uniform logits."""
    z = torch.tensor([[logits, [0.0] * len(logits)]], requires_grad=True)
    value = loss(z, torch.tensor([[0, t]]), **settings)
    (gradient,) = torch.autograd.grad(value, z)
    return value.item(), gradient[0, 0].tolist()


def close(*expected: float):
    return pytest.approx(list(expected), rel=1e-5, abs=1e-6)


def test_neg_cross_entropy():
    """p = (1, 2, 3)/6, t = 2: log ½; gradient −(p − 1[t])."""
    value, gradient = worked(neg_cross_entropy, 0, LN2, LN3, t=2)
    assert value == pytest.approx(-LN2)
    assert gradient == close(-1 / 6, -1 / 3, 1 / 2)


def test_neg_entropy():
    """p = (3, 1)/4: Σ p log p = ¾ log ¾ + ¼ log ¼; at the last position −log 2; the mean of both.

    Gradient p_i (log p_i − Σ p log p)/2: ± (3/16) log 3 / 2.
    """
    value, gradient = worked(neg_entropy, LN3, 0, t=0)
    assert value == pytest.approx((0.75 * log(0.75) + 0.25 * log(0.25) - LN2) / 2)
    assert gradient == close(3 / 32 * LN3, -3 / 32 * LN3)


@pytest.mark.parametrize(("clip", "value", "gradient"), [(0, 3, (-1 / 3, -1 / 3, 2 / 3)), (4, 4, (0, 0, 0))])
def test_correct_logit(clip, value, gradient):
    """z = (0, 1, 5), t = 2: 5 − 2 = 3. Clipped at 4 there is nothing left to do."""
    assert worked(correct_logit, 0, 1, 5, t=2, clip=clip) == (pytest.approx(value), close(*gradient))


def test_clip_is_per_token():
    """Two positions, 3 and −2 above the mean: mean of (3, 0), and no gradient at the second."""
    z = torch.tensor([[[0.0, 1, 5], [0, 3, -3], [0, 0, 0]]], requires_grad=True)
    value = correct_logit(z, torch.tensor([[0, 2, 2]]), clip=0.0)
    (gradient,) = torch.autograd.grad(value, z)
    assert value.item() == pytest.approx(1.5)
    assert gradient[0, 1:].count_nonzero() == 0 and gradient[0, 0].count_nonzero() == 3


def test_soft_logit():
    """x = 3, s = 3: 3 atan 1; the gradient is 1/(1 + (x/s)²) = ½ of the plain one."""
    value, gradient = worked(soft_logit, 0, 1, 5, t=2, scale=3.0)
    assert value == pytest.approx(3 * pi / 4)
    assert gradient == close(-1 / 6, -1 / 6, 1 / 3)


def test_soft_cross_entropy():
    """CE = log 2 = s: −s · π/4; half of the gradient of −CE. At CE = 3 s (p = ⅛) a tenth."""
    value, gradient = worked(soft_cross_entropy, 0, LN2, LN3, t=2, scale=LN2)
    assert value == pytest.approx(-LN2 * pi / 4)
    assert gradient == close(-1 / 12, -1 / 6, 1 / 4)
    value, gradient = worked(soft_cross_entropy, 0, log(7), t=0, scale=LN2)
    assert value == pytest.approx(-LN2 * atan(3))
    assert gradient == close(7 / 80, -7 / 80)


def test_biased_entropy():
    """z = (0, log 2, log 2), t = 0: with bias log 2 p is uniform, the optimum; without, p = (1, 2, 2)/5."""
    value, gradient = worked(biased_entropy, 0, LN2, LN2, t=0, bias=LN2)
    assert value == pytest.approx(-LN3)
    assert gradient == close(0, 0, 0)
    value, _ = worked(biased_entropy, 0, LN2, LN2, t=0, bias=0.0)
    assert value == pytest.approx(0.2 * log(0.2) + 0.8 * log(0.4))


@pytest.mark.parametrize(
    ("bias", "only_correct", "value", "gradient"),
    [
        (0.0, False, LN2, (-1 / 6, -1 / 3, 1 / 2)),
        (0.0, True, LN2, (0, 0, 1 / 2)),
        (LN3, False, log(4), (-1 / 4, -1 / 2, 3 / 4)),
    ],
)
def test_flipped_probability(bias, only_correct, value, gradient):
    """p = (1, 2, 3)/6, t = 2: −log ½; with bias log 3 p_t = 9/12. Gradient p_t at t, −p_t · p_j/(1 − p_t) elsewhere."""
    found = worked(flipped_probability, 0, LN2, LN3, t=2, bias=bias, only_correct=only_correct)
    assert found == (pytest.approx(value), close(*gradient))


def test_flipped_probability_is_finite_where_the_probability_rounds_to_one():
    """z = (0, 1000), t = 1: 1 − p_t underflows, and −log(1 − p_t) = 1000."""
    assert worked(flipped_probability, 0, 1000, t=1, bias=0.0, only_correct=False) == (1000, close(-1, 1))
    assert worked(flipped_probability, 1000, 0, t=1, bias=0.0, only_correct=False) == (0, close(0, 0))


def test_stream_activation():
    """Norms (5, 0): mean 2.5, squared 6.25. Norms (10, 10): 100. The last state does not count.

    ∂/∂(3, 4) = 2 · 2.5 · (0.6, 0.8)/2; the state of norm 0 has gradient 0.
    """
    first = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], requires_grad=True)
    second, last = torch.full((1, 2, 4), 5.0), torch.full((1, 2, 2), 1e6)
    value = stream_activation((first, second, last))
    (gradient,) = torch.autograd.grad(value, first)
    assert value.item() == pytest.approx(106.25)
    assert gradient.flatten().tolist() == close(1.5, 2.0, 0, 0)


# --------------------------------------------------------------------------------------------- as a spec names them


def of(name: str, **settings):
    return unlearning_loss(parse_as(Loss, {"type": name, **settings}, "method.loss"))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("neg_entropy", "stream_activation")])
def test_descent_takes_probability_from_the_correct_token(name):
    """To first order, at each position: ∇ loss · ∇ cross-entropy < 0 (away from clips)."""
    z = (3 * torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(0))).requires_grad_()
    tokens = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(1))
    settings = {"clip": -100.0} if name == "correct_logit" else {"bias": 20.0} if name == "biased_entropy" else {}
    output = type("Output", (), {"logits": z})
    (ours,) = torch.autograd.grad(of(name, **settings)(output, tokens), z)
    (theirs,) = torch.autograd.grad(cross_entropy(z, tokens), z)
    assert ((ours * theirs).sum(-1)[:, :-1] < 0).all()
    assert ours[:, -1].count_nonzero() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_each_is_taken_in_the_models_own_type(name):
    """bfloat16 logits and hidden states: finite losses, and gradients in bfloat16 near those in float32."""
    tokens = token_batches(3, 1)[0]
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = model_of().to(dtype)
        weight = model.model.layers[0].mlp.gate_proj.weight
        spec = parse_as(Loss, name, "method.loss")
        output = model(input_ids=tokens, output_hidden_states=needs_hidden_states(spec))
        loss = unlearning_loss(spec)(output, tokens)
        half = name in ("neg_entropy", "stream_activation")
        assert loss.ndim == 0 and loss.dtype == (dtype if half else torch.float32)
        (gradients[dtype],) = torch.autograd.grad(loss, weight)
    assert gradients[torch.bfloat16].dtype == torch.bfloat16
    flat = [gradient.flatten().double() for gradient in gradients.values()]
    assert torch.cosine_similarity(*flat, dim=0) > 0.97


@pytest.mark.parametrize("gradient", ["none", "hybrid", "reuse", "fresh"])
@pytest.mark.parametrize("name", LOSSES)
def test_each_unlearns(name, gradient):
    adversary = {"type": "none"} if gradient == "none" else {"gradient": gradient}
    weights, record = run(method(loss=name, adversary=adversary), loops=2)
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert record.zero_norm_loops == 0
    other, _ = run(method(loss=name, adversary=adversary, unlearning_rate=0.0), loops=2)
    assert not identical(weights, other)


MASKS = ("none", "sign", "percentile", "agem", "absolute", "compromise")
NORMALIZATIONS = ("none", "per_parameter", "global_post_mask", "global_pre_mask")
PAIRS = [pair for pair in product(MASKS, NORMALIZATIONS) if pair != ("agem", "per_parameter")]  # these do not combine


@pytest.mark.parametrize(("mask", "normalization"), PAIRS)
def test_a_loss_below_its_clip_updates_nothing(mask, normalization):
    """No gradient: 0/0 must be an update of 0, whatever divides."""
    model = model_of()
    before = snapshot(model)
    loss = {"type": "correct_logit", "clip": 1e6}
    mask = {"type": mask, "warm_up": 0} if mask == "percentile" else mask
    config = method(loss=loss, mask=mask, normalization=normalization, retaining_rate=0.0, forget_momentum=0.5)
    weights, record = run(config, 2, model=model)
    assert identical(weights, before)
    assert record.zero_norm_loops == 2
