"""Weights after one or two loops, worked by hand in each docstring. See ``two_weights`` for the model's gradients."""

from math import sqrt

import pytest
import torch
from two_weights import LN3, PLAIN, TwoTensors, TwoWeights, close, unlearned

import mudman

# ------------------------------------------------------------------------------------- mask and normalisation


@pytest.mark.parametrize(
    ("mask", "normalization", "unit", "expected"),
    [
        ("none", "none", "rms", (0.1 / 4, -0.1 / 4)),
        ("none", "global_pre_mask", "rms", (0.1, -0.1)),
        ("none", "global_pre_mask", "l2", (0.1 / sqrt(2), -0.1 / sqrt(2))),
        ("sign", "none", "rms", (0.1 / 4, 0)),
        ("sign", "global_pre_mask", "rms", (0.1, 0)),
        ("sign", "global_pre_mask", "l2", (0.1 / sqrt(2), 0)),
        ("sign", "global_post_mask", "rms", (0.1 * sqrt(2), 0)),
        ("sign", "global_post_mask", "l2", (0.1, 0)),
        ("sign", "per_parameter", "rms", (0.1 * sqrt(2), 0)),
        ("sign", "per_parameter", "l2", (0.1, 0)),
    ],
)
def test_mask_and_normalisation(mask, normalization, unit, expected):
    """Retain (0,1), (1,1): g_r = (−1/4, −1/4) = acc. Forget (0,0), (1,1): g_u = (−1/4, +1/4).

    Signs agree at w₀ only. Raw norm √2/4, masked norm 1/4, N = 2; w ← 0 − 0.1 · g_u · factor.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0), (1, 1)]],
        [[(0, 1), (1, 1)]],
        mask=mask,
        normalization=normalization,
        rate_unit=unit,
        unlearning_rate=0.1,
        adversary={"type": "none"},
    )
    assert weights == close(*expected)


@pytest.mark.parametrize(
    ("normalization", "unit", "expected"),
    [
        ("none", "rms", (0.3 / 8, -0.1 / 8)),
        ("global_pre_mask", "rms", (0.3 / sqrt(5), -0.1 / sqrt(5))),
        ("global_post_mask", "l2", (0.3 / sqrt(10), -0.1 / sqrt(10))),
        ("per_parameter", "rms", (0.1, -0.1)),
        ("per_parameter", "l2", (0.1, -0.1)),
    ],
)
def test_norms_over_two_tensors(normalization, unit, expected):
    """Forget three times (0,0), once (1,1): g_u = (−3/8, +1/8); norm √10/8 over both tensors, 3/8 and 1/8 alone."""
    weights = unlearned(
        TwoTensors(0, 0),
        [[(0, 0), (0, 0), (0, 0), (1, 1)]],
        [[(0, 1)]],
        mask="none",
        normalization=normalization,
        rate_unit=unit,
        unlearning_rate=0.1,
        adversary={"type": "none"},
    )
    assert weights == close(*expected)


def test_a_tensor_without_gradient_stays():
    """Forget (0,0) only: the second tensor's norm is 0 and so is its update, not 0/0."""
    weights = unlearned(
        TwoTensors(0, 0.5),
        [[(0, 0)]],
        [[(0, 1)]],
        mask="none",
        normalization="per_parameter",
        unlearning_rate=0.1,
        adversary={"type": "none"},
    )
    assert weights == close(0.1, 0.5)


# ------------------------------------------------------------------------------------------ retain accumulator


def test_retain_step_uses_the_accumulator():
    """Retain (0,1), m = 1/2, rate 4 ln 3. Loop 1: g = −1/2, acc = −1/4, w₀ = ln 3.

    Loop 2: g = 3/4 − 1 = −1/4, acc = −1/8 − 1/8 = −1/4, w₀ = 2 ln 3. No correction of the accumulator's start at 0.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(1, 1)]],
        [[(0, 1)]],
        loops=2,
        retaining_rate=4 * LN3,
        retain_momentum=0.5,
        unlearning_rate=0.0,
        **PLAIN,
    )
    assert weights == close(2 * LN3, 0)


@pytest.mark.parametrize(("momentum", "expected"), [(0.9, 2.5 * LN3), (0.0, LN3)])
def test_mask_compares_with_the_accumulator(momentum, expected):
    """Forget (0,0), rate 2 ln 3: g_u = −1/2 moves w₀ to ln 3; there g_u = −3/4, worth another 1.5 ln 3 if kept.

    Retain (0,1), then (0,0), (1,1): g_r = −1/2, then 3/8 at w₀ = ln 3. With m = 0.9, acc = −0.05, then
    −0.045 + 0.0375 < 0: kept, although this batch's gradient disagrees. With m = 0, acc = +3/8: masked.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0)], [(0, 0)]],
        [[(0, 1)], [(0, 0), (1, 1)]],
        loops=2,
        retain_momentum=momentum,
        mask="sign",
        normalization="none",
        unlearning_rate=2 * LN3,
        adversary={"type": "none"},
    )
    assert weights == close(expected, 0)


# --------------------------------------------------------------------------------------- growing weights, losses


@pytest.mark.parametrize(
    ("factor", "normalization", "rate", "expected"),
    [
        (1.0, "none", 8, (LN3 + 3, -LN3 + 1)),
        (0.5, "none", 8, (LN3 + 1.5, -LN3 + 1)),
        (0.0, "none", 8, (LN3, -LN3 + 1)),
        (0.0, "global_pre_mask", sqrt(5), (LN3, -LN3 + 1)),
    ],
)
def test_growing_weights(factor, normalization, rate, expected):
    """w = (ln 3, −ln 3), forget (0,0), (1,0): g_u = (−3/8, −1/8), and w rises in both: |w₀| grows, |w₁| shrinks.

    The norm that ``global_pre_mask`` divides by is the raw one, √10/8: √5 · √2 · 8/√10 = 8.
    """
    weights = unlearned(
        TwoWeights(LN3, -LN3),
        [[(0, 0), (1, 0)]],
        [[(0, 1)]],
        growing_weights=factor,
        unlearning_rate=rate,
        **{**PLAIN, "normalization": normalization},
    )
    assert weights == close(*expected)


def test_entropy_counts_the_last_position():
    """∂(Σ p log p)/∂z = p (1 − p) z, logits (0, z). w = (ln 3, −ln 3): p (1 − p) = 3/16. Forget (0,1): 2 positions.

    g_u = (3/32 ln 3, −3/32 ln 3); with rate 32/3 both weights go to 0: full entropy.
    """
    weights = unlearned(
        TwoWeights(LN3, -LN3), [[(0, 1)]], [[(0, 1)]], loss="neg_entropy", unlearning_rate=32 / 3, **PLAIN
    )
    assert weights == close(0, 0)


@pytest.mark.parametrize(
    ("squared", "expected"),
    [(False, LN3 + 2 * LN3 * (1 / 4 - 1 / 8)), (True, LN3 + 2 * LN3 * (1 / 4 - LN3 / 4))],
)
def test_representation_loss(squared, expected):
    """Retain (0,0), whose states are (one-hot, z, last): the mean over 2 tokens × 2 states is |z − z′|/2, z = w₀.

    To keep w₀ alone in play: retain (0,1) has one token of each kind, so the distance is |w₀ − w₀′|/4 (w₁ stays) or its
    square. Loop 1: distance 0, gradient 0; g = −1/2, rate 2 ln 3: w₀ = ln 3. Loop 2: CE −1/4, distance +c/4 · 1 or
    c/4 · 2 ln 3; with c = 1/2: 1/8 or ln 3/4.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(1, 1)]],
        [[(0, 1)]],
        loops=2,
        representation_loss={"coefficient": 0.5, "squared": squared},
        retaining_rate=2 * LN3,
        unlearning_rate=0.0,
        **PLAIN,
    )
    assert weights == close(expected, 0)


# -------------------------------------------------------------------------------------------------- adversary


@pytest.mark.parametrize(("gradient", "expected"), [("fresh", LN3 + 1), ("hybrid", LN3 + 2), ("reuse", LN3 + 2)])
def test_adversary_forks_before_the_retain_step_and_decays_after_it(gradient, expected):
    """Retain (0,1), rate 2 ln 3: w₀ = ln 3. The adversary was forked at 0. Forget (0,0): g_a = 1/2.

    Rate 10 ln 3: adversary −5 ln 3; decay 1/3 towards w₀ = ln 3: (−5 + 2)/3 ln 3 = −ln 3, where p = 1/4 and g_u = −1/4
    (fresh). With one layer the gradient of the kept graph is that of the old adversary: −1/2 (hybrid, reuse). Rate 4.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0)]],
        [[(0, 1)]],
        retaining_rate=2 * LN3,
        adversary_rate=10 * LN3,
        unlearning_rate=4.0,
        mask="none",
        normalization="none",
        adversary={"gradient": gradient, "decay": 1 / 3},
    )
    assert weights == close(expected, 0)


def test_without_adversary_the_gradient_is_the_models_own():
    """Retain (0,1), rate 2 ln 3: w₀ = ln 3 before the forget pass, so forget (0,0) gives g_u = −3/4. Rate 4."""
    weights = unlearned(TwoWeights(0, 0), [[(0, 0)]], [[(0, 1)]], retaining_rate=2 * LN3, unlearning_rate=4.0, **PLAIN)
    assert weights == close(LN3 + 3, 0)


@pytest.mark.parametrize(
    ("share", "fork_every", "expected"),
    [(0.0, 2, 4 * LN3), (0.5, 2, 5 * LN3), (1.0, 2, 5.6 * LN3), (0.0, 1, 5.6 * LN3), (0.0, 1.9, 5.6 * LN3)],
)
def test_adversary_update_and_fork(share, fork_every, expected):
    """Forget (0,0), adversary rate 0, rate 4 ln 3. Loop 1: g_u = −1/2, w₀ = 2 ln 3, the adversary gets the share of it.

    Loop 2 at the adversary 0, ln 3 or 2 ln 3: g_u = −1/2, −3/4 or −9/10, worth 2, 3 or 3.6 ln 3. A fork in loop 2 takes
    the adversary to 2 ln 3 as well.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0)]],
        [[(0, 1)]],
        loops=2,
        unlearning_rate=4 * LN3,
        fork_every=fork_every,
        mask="none",
        normalization="none",
        adversary={"gradient": "reuse", "update": share},
    )
    assert weights == close(expected, 0)


# -------------------------------------------------------------------------------------------- forget momentum


@pytest.mark.parametrize(
    ("normalization", "rate", "expected"),
    [("none", 4 * LN3, 3 * LN3), ("global_pre_mask", sqrt(2) * LN3, 7 / 3 * LN3)],
)
def test_forget_momentum(normalization, rate, expected):
    """Forget (0,0), β = 1/2. Loop 1: g_u = −1/2, average −1/4. Loop 2 at ln 3: g_u = −3/4, average −1/2.

    Without normalisation (rate 4 ln 3): ln 3, then + 2 ln 3. ``global_pre_mask`` divides the average by the norm of the
    raw gradient: √2 · √2 ln 3 · (1/4)/(1/2) = ln 3, then 2 ln 3 · (1/2)/(3/4) = 4/3 ln 3.
    """
    weights = unlearned(
        TwoWeights(0, 0),
        [[(0, 0)]],
        [[(0, 1)]],
        loops=2,
        forget_momentum=0.5,
        unlearning_rate=rate,
        **{**PLAIN, "normalization": normalization},
    )
    assert weights == close(expected, 0)


# ---------------------------------------------------------------------------------------------------- relearn


def test_relearning():
    """Forget (0,1), rate 2 ln 3: w₀ = ln 3, then 1/4 · 2 ln 3 more. Mixed, retain (0,0): ln 3, less 3/4 · 2 ln 3."""
    forget, retain = [torch.tensor([(0, 1)])], [torch.tensor([(0, 0)])]
    model, mixed = TwoWeights(0, 0), TwoWeights(0, 0)
    mudman.relearn(model, forget, {"rate": 2 * LN3, "passes": 4})
    mudman.relearn(mixed, forget, {"rate": 2 * LN3, "passes": 4, "retain": True}, retain)
    assert model.values() == close(1.5 * LN3, 0)
    assert mixed.values() == close(-0.5 * LN3, 0)
