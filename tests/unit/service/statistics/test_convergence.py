"""Verdicts on searches of known shape."""

import numpy as np
import pytest

from service.statistics.convergence import convergence

NOISE = np.random.default_rng(0).normal(0, 0.1, 60)


def test_at_rest():
    values = [2.0 + float(noise) for noise in NOISE]
    found = convergence(values, 30)
    assert (found.verdict, found.valid) == ("converged", 60)
    assert found.change == pytest.approx(np.mean(values[30:]) - np.mean(values[:30]))
    assert found.low < found.change < found.high
    assert found.best_after == 1 + int(np.argmax(values))


@pytest.mark.parametrize(("slope", "minimise", "said"), [
    (0.02, False, "improving"),
    (0.02, True, "worsening"),
    (-0.02, True, "improving"),
    (-0.02, False, "worsening"),
])  # fmt: skip
def test_on_the_move(slope, minimise, said):
    values = [2.0 + slope * n + float(noise) for n, noise in enumerate(NOISE)]
    found = convergence(values, 30, minimise=minimise)
    assert found.verdict == said
    assert found.p_value < 0.05


def test_a_new_best_is_an_improvement_though_the_mean_is_not():
    values = [2.0 + float(noise) for noise in NOISE]
    values[-1] = 3.0
    found = convergence(values, 30)
    assert found.p_value > 0.05
    assert (found.verdict, found.best_after) == ("improving", 60)
    assert found.best_gain == pytest.approx(3.0 - max(values[:30]))
    assert found.best_gain > found.spread


def test_too_few():
    found = convergence([1.0, 3.0, 2.0], 30)
    assert (found.verdict, found.valid, found.change, found.best_after) == ("too few trials", 3, None, 2)
    assert convergence([], 30).best_after is None
