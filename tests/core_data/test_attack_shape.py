"""Plateaus and break-throughs of hand-made attack curves."""

import math
import random

import pytest

from mudman.results import AttackShape
from mudman.shape import attack_shape

PASSES = tuple(range(0, 601, 30))  # 21 checks
NOTHING = AttackShape()


def curve(loss):
    return [loss(p) for p in PASSES]


def noisy(losses, size, seed=0):
    draw = random.Random(seed)
    return [loss + draw.gauss(0, size) for loss in losses]


STEADY = {
    "linear": curve(lambda p: 9 - p / 100),
    "slow exponential": curve(lambda p: 3 + 6 * math.exp(-p / 300)),
    "fast exponential": curve(lambda p: 3 + 6 * math.exp(-p / 40)),
    "at once": curve(lambda p: 9 if p == 0 else 3),
    "flat": curve(lambda p: 5.0),
    "rising": curve(lambda p: 3 + p / 200),
}


@pytest.mark.parametrize("losses", STEADY.values(), ids=STEADY)
@pytest.mark.parametrize("noise", [0, 0.02, 0.1])
def test_a_steady_return_has_no_shape(losses, noise):
    for seed in range(20):
        assert attack_shape(PASSES, noisy(losses, noise, seed)) == NOTHING


@pytest.mark.parametrize("noise", [0, 0.02, 0.1])
def test_a_step_is_a_plateau_and_a_break_through(noise):
    losses = curve(lambda p: 9 if p < 300 else 3)
    for seed in range(20):
        shape = attack_shape(PASSES, noisy(losses, noise, seed))
        assert shape == AttackShape(plateaus=((0, 270),), breakthroughs=(300,))


def test_a_steady_fall_then_a_plateau_then_a_drop_over_two_checks():
    losses = [9, 8, 7.5, 7.2, 7.1, 7.08, 7.07, 7.06, 7.05, 7.04, 7.03, 7.02, 7.01, 7, 5, 3, 2.9, 2.8, 2.75, 2.72, 2.7]
    shape = attack_shape(PASSES, losses)
    ((start, end),) = shape.plateaus
    assert (start, end) == (120, 390)  # from 7.1 to 7.0
    assert shape.breakthroughs == (420,)


def test_two_break_throughs():
    losses = curve(lambda p: 9 if p < 180 else 6 if p < 420 else 3)
    assert attack_shape(PASSES, losses) == AttackShape(plateaus=((0, 150), (180, 390)), breakthroughs=(180, 420))


def test_what_is_reached_at_the_end_is_no_plateau():
    losses = curve(lambda p: max(3, 9 - p / 50))  # nothing is to come after it
    assert attack_shape(PASSES, losses) == NOTHING


def test_a_single_outlier_is_no_break_through():
    losses = curve(lambda p: 9 - p / 100)
    losses[10] -= 3
    assert attack_shape(PASSES, losses) == NOTHING


def test_recovering_what_a_rise_had_lost_is_no_break_through():
    before, overshoot = [9 - i / 3 for i in range(8)], [7.5, 8.5, 9.5, 8.5, 7.5]
    after = [before[-1] - i / 3 for i in range(1, 9)]
    assert attack_shape(PASSES, [*before, *overshoot, *after]).breakthroughs == ()


def test_checks_without_a_number_are_left_out():
    losses = curve(lambda p: 9 if p < 300 else 3)
    losses[3] = losses[15] = None
    assert attack_shape(PASSES, losses) == AttackShape(plateaus=((0, 270),), breakthroughs=(300,))


def test_a_fall_below_a_tenth_of_a_nat_has_no_shape():
    assert attack_shape(PASSES, curve(lambda p: 3.09 if p < 300 else 3)) == NOTHING


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_checks_have_no_shape(count):
    assert attack_shape(PASSES[:count], [9, 9, 3][:count]) == NOTHING


def test_units_of_passes_do_not_matter():
    losses = curve(lambda p: 9 if p < 300 else 3)
    scaled = attack_shape([10 * p for p in PASSES], losses)
    assert scaled == AttackShape(plateaus=((0, 2700),), breakthroughs=(3000,))
