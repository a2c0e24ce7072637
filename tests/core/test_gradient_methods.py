"""Gradient ascent and gradient difference on two weights (tests/core/two_weights.py): every step worked by hand."""

import pytest
import torch
from short_runs import FORGET, RETAIN, model_of
from small_models import MODULES, identical, snapshot
from two_weights import LN3, TwoWeights, close

import mudman

HALF_UP = [[0, 1]]  # at w₀ = 0: cross-entropy's gradient −1/2, that of neg_cross_entropy +1/2


def after(model: TwoWeights, forget: list, retain: list, loops: int = 1, **settings) -> list[float]:
    kind = settings["type"]
    per_loop = {"gradient_ascent": 2, "gradient_difference": 4}[kind]
    batches = ([torch.tensor(sequences) for sequences in stream] for stream in (forget, retain))
    mudman.unlearn(model, *batches, {"target_modules": ["probe"], **settings}, loops * per_loop)
    return model.values()


def test_ascent_step_by_step():
    """w₀ = 0: p = 1/2. Step 2 ln 3 · 1/2 leads to −ln 3, where p = 1/4 and the gradient is 3/4."""
    settings = {"type": "gradient_ascent", "unlearning_rate": 2 * LN3}
    assert after(TwoWeights(0, 0), [HALF_UP], [[[1, 1]]], **settings) == close(-LN3, 0)
    assert after(TwoWeights(0, 0), [HALF_UP], [[[1, 1]]], 2, **settings) == close(-2.5 * LN3, 0)


def test_ascent_on_another_loss():
    """Flipped probability, −log(1 − p): gradient p = 1/2 at 0."""
    settings = {"type": "gradient_ascent", "unlearning_rate": 3.0, "loss": "flipped_probability"}
    assert after(TwoWeights(0, 0), [HALF_UP], [[[1, 1]]], **settings) == close(-1.5, 0)


def test_difference_adds_both_gradients():
    """Unlearning gradient (1/2, 0), retain gradient (0, −1/2) of weight 3, rate 2."""
    settings = {"type": "gradient_difference", "unlearning_rate": 2.0, "retain_weight": 3.0}
    assert after(TwoWeights(0, 0), [HALF_UP], [[[1, 1]]], **settings) == close(-1, 3)


def test_difference_takes_both_at_the_same_weights():
    """The same sentence to forget and to retain: the gradients cancel, which steps one after the other would not."""
    settings = {"type": "gradient_difference", "unlearning_rate": 5.0}
    assert after(TwoWeights(LN3, 0), [HALF_UP], [HALF_UP], 3, **settings) == [pytest.approx(LN3), 0]
    assert after(TwoWeights(0, 0), [HALF_UP], [HALF_UP], **settings, retain_weight=0.5) == close(-1.25, 0)


def test_difference_paused_goes_on_retaining():
    """Loop 0 moves both weights by 1/2 · rate, loop 1 the retained one alone, by its gradient at w₁ = ln 3: −1/4."""
    batches = [torch.tensor(HALF_UP)], [torch.tensor([[1, 1]])]
    settings = {"type": "gradient_difference", "target_modules": ["probe"], "unlearning_rate": 2 * LN3}
    model = TwoWeights(0, 0)
    _, record = mudman.unlearn(model, *batches, settings, 8, check_every=4, pause_when=lambda point: True)
    assert model.values() == close(-LN3, 1.5 * LN3)
    assert (record.paused_passes, record.passes_made) == (4, 6)


def test_difference_without_its_retain_part_is_ascent():
    settings = {"target_modules": MODULES["llama"], "unlearning_rate": 0.05, "loss": "correct_logit"}
    ascent, difference = model_of(), model_of()
    mudman.unlearn(ascent, FORGET, RETAIN, {"type": "gradient_ascent", **settings}, 6)
    mudman.unlearn(difference, FORGET, RETAIN, {"type": "gradient_difference", "retain_weight": 0, **settings}, 12)
    assert identical(snapshot(ascent), snapshot(difference))


def traced(kind: str, passes: int, retain: list, **changes):
    settings = {"type": kind, "target_modules": ["probe"], "unlearning_rate": 4.0, **changes}
    batches = [torch.tensor(HALF_UP)], [torch.tensor(retain)]
    return mudman.unlearn(TwoWeights(0, 0), *batches, settings, passes, trace=True)[1].trace


def test_what_a_trace_of_ascent_tells():
    trace = traced("gradient_ascent", 2, [[1, 1]])
    assert (trace.gradient_norm, trace.update_norm, trace.kept) == ((0.5,), (2.0,), (1,))


def test_what_a_trace_of_the_difference_tells():
    """Unlearning gradient (1/2, 0), retain gradient (1/4, −1/4): the step is 4 times (3/4, −1/4), and harms nothing."""
    trace = traced("gradient_difference", 4, [[0, 0], [1, 1]])
    assert (trace.gradient_norm, trace.agreeing, trace.kept) == ((0.5,), (0.5,), (1,))
    assert trace.retain_norm == (pytest.approx(2**0.5 / 4),)
    assert trace.update_norm == (pytest.approx(10**0.5),)
    assert trace.harmful == (0,)


@pytest.mark.parametrize(("weight", "update_norm", "harmful"), [(0.5, 1.0, 1), (2.0, 2.0, 0)])
def test_what_harms_is_the_common_step(weight, update_norm, harmful):
    """Unlearning gradient 1/2, retain gradient −1/2 at the same weight: their sum has the sign of the heavier."""
    trace = traced("gradient_difference", 4, HALF_UP, retain_weight=weight)
    assert (trace.gradient_norm, trace.agreeing) == ((0.5,), (0,))
    assert (trace.update_norm, trace.harmful) == ((update_norm,), (harmful,))


def test_vanished_gradients_are_counted():
    """At uniform predictions the entropy is at its largest."""
    settings = {"type": "gradient_ascent", "target_modules": ["probe"], "unlearning_rate": 1.0, "loss": "neg_entropy"}
    model = TwoWeights(0, 0)
    _, record = mudman.unlearn(model, [torch.tensor(HALF_UP)], [torch.tensor(HALF_UP)], settings, 6)
    assert record.zero_norm_loops == 3
    assert model.values() == [0, 0]
