"""The block bootstrap: by hand, against scipy where values are independent, and how often it errs elsewhere."""

import math

import numpy as np
import pytest
from scipy import stats
from series import autoregressive

from service.statistics import bootstrap
from service.statistics.bootstrap import Sample, interval


def test_blocks_by_hand():
    # Eight values that alternate: blocks of ∛8 = 2, each of mean 2, so nothing varies.
    assert Sample((1.0, 3.0) * 4, "a").block == 2
    assert Sample((1.0, 3.0) * 4, "a").error == pytest.approx(0, abs=1e-12)
    # 0, 0, 0, 0, 4, 4, 4, 4 closed to a circle, in blocks of 2: means 0, 0, 0, 2, 4, 4, 4, 2, of variance 3 about 2.
    sample = Sample((0.0,) * 4 + (4.0,) * 4, "a")
    assert (sample.block, sample.drawn) == (2, 4)
    assert sample.error == pytest.approx(math.sqrt(3 * (4 / 3) * 2 / 8))


def test_draws_by_hand():
    """The first resample, from the frozen stream, as the documentation says it."""
    values = (3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0)
    sample = Sample(values, "no_mask", seed=7)
    uniform = np.random.RandomState(list(b"7/no_mask")).random_sample(sample.drawn)
    blocks = [(values[start] + values[(start + 1) % 8]) / 2 for start in (int(u * 8) for u in uniform)]
    assert sample.draws[0][0] == pytest.approx(sum(blocks) / 4)
    assert sample.draws[1][0] == pytest.approx(np.std(blocks, ddof=1) / 2)
    assert len(sample.draws[0]) == bootstrap.RESAMPLES


def test_agrees_with_welch_where_values_are_independent():
    generator = np.random.default_rng(5)
    one, other = generator.normal(1.0, 1, 2000), generator.normal(0.9, 2, 1500)
    found = interval(Sample(tuple(one), "one"), Sample(tuple(other), "other"))
    welch = stats.ttest_ind(one, other, equal_var=False)
    ends = welch.confidence_interval(0.95)
    width = ends.high - ends.low
    assert found.low == pytest.approx(ends.low, abs=0.15 * width)
    assert found.high == pytest.approx(ends.high, abs=0.15 * width)
    assert (found.low + found.high) / 2 == pytest.approx(one.mean() - other.mean())
    assert found.p_value == pytest.approx(welch.pvalue, abs=0.05)


def test_against_an_exact_number_agrees_with_one_sample():
    values = np.random.default_rng(2).normal(0.4, 1, 120)
    found = interval(Sample(tuple(values), "one"), 0.0)
    ends = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.15 * (ends.high - ends.low))


@pytest.mark.parametrize(("n", "phi"), [(30, 0.0), (30, 0.3), (60, 0.3)])
def test_how_often_it_finds_what_is_not_there(monkeypatch, n, phi):
    """At 5 %: of 300 pairs with equal means, 15; four standard deviations of that more."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 499)
    generator = np.random.default_rng(3)
    found = 0
    for seed in range(300):
        one, other = (Sample(autoregressive(n, phi, generator), name, seed) for name in ("one", "other"))
        found += interval(one, other).p_value < 0.05
    assert found <= 15 + 4 * math.sqrt(300 * 0.05 * 0.95)


def test_two_trials_resolve_nothing():
    found = interval(Sample((3.0, 3.1), "one"), Sample((1.0, 1.1), "other"))
    assert found is None or found.p_value > 0.05
    assert interval(Sample((3.0,), "one"), Sample((1.0, 1.1), "other")) is None
    assert interval(Sample((0.3,) * 9, "one"), 0.1) is None, "nothing varies"


def test_the_same_seed_gives_the_same_and_another_nearly_the_same():
    generator = np.random.default_rng(4)
    one, other = (tuple(generator.normal(size=30)) for _ in range(2))
    first, again, reseeded = (interval(Sample(one, "one", seed), Sample(other, "other", seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != reseeded
    assert first.low == pytest.approx(reseeded.low, abs=0.05)
