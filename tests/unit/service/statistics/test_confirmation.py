"""What is left of the best: by hand, and against SciPy."""

import math
import random

import pytest
from scipy import stats

from service.statistics.compute import Attempt
from service.statistics.confirmation import confirmation, mean_of


def runs(*values: float | None) -> list[Attempt]:
    """One a trial; None: over its retain budget."""
    return [
        Attempt(ordinal, 1, "over_retain_budget" if value is None else "valid", value)
        for ordinal, value in enumerate(values)
    ]


def test_by_hand():
    found = confirmation({17: 4.0}, 3, runs(3.0, 3.2, 3.4), baseline=2.0, baselines=[1.9, 2.0, 2.4])
    (one,) = found.configurations
    assert (one.ordinal, one.searched, one.valid, found.difference) == (17, 4.0, 3, None)
    assert one.mean.value == pytest.approx(3.2)
    # deviations -0.2, 0, 0.2: variance 0.08 / 2, over the root of 3
    assert one.mean.standard_error == pytest.approx(0.2 / math.sqrt(3))
    # 4.3027: two-sided 5 % of Student's t with two degrees of freedom, from a table
    assert one.mean.high - one.mean.value == pytest.approx(4.3027 * 0.2 / math.sqrt(3), rel=1e-4)
    assert one.shrinkage.value == pytest.approx(-0.8)
    assert one.shrinkage.standard_error == pytest.approx(one.mean.standard_error)
    # gains 1.1, 1.2, 1.0 against 2.0 in the search
    assert (one.gain.value, one.gain_shrinkage.value) == (pytest.approx(1.1), pytest.approx(-0.9))
    assert one.gain_shrinkage.standard_error == pytest.approx(0.1 / math.sqrt(3))


def test_means_agree_with_scipy():
    rng = random.Random(3)
    for n in (2, 5, 12):
        values = [rng.gauss(0.3, 1.0) for _ in range(n)]
        found, expected = mean_of(values, 0.1), stats.ttest_1samp(values, 0.1)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert found.standard_error == pytest.approx(stats.sem(values))
        low, high = expected.confidence_interval(0.95)
        assert (found.low, found.high) == (pytest.approx(low - 0.1), pytest.approx(high - 0.1))


def test_the_best_may_be_another_one():
    best, second = [3.0, 3.3, 3.1, 3.0], [3.4, 3.2, 3.6, 3.5]
    found = confirmation({5: 4.0, 2: 3.9}, 4, runs(*best, *second))
    assert [one.ordinal for one in found.configurations] == [2, 5]
    expected = stats.ttest_rel(second, best)
    assert found.difference.value == pytest.approx(sum(second) / 4 - sum(best) / 4)
    assert found.difference.p_value == pytest.approx(expected.pvalue)
    # Where lower is better, it is the best of the search.
    found = confirmation({5: 4.0, 2: 4.1}, 4, runs(*best, *second), minimise=True)
    assert ([one.ordinal for one in found.configurations], found.difference) == ([5, 2], None)


def test_one_that_breaks_its_bound_ranks_behind():
    found = confirmation({5: 4.0, 2: 3.9, 7: 3.8}, 2, runs(3.9, None, 3.1, 3.2, None, None))
    assert [(one.ordinal, one.valid) for one in found.configurations] == [(2, 2), (5, 1), (7, 0)]
    behind, nothing = found.configurations[1:]
    assert behind.outcomes == {"valid": 1, "over_retain_budget": 1}
    assert (behind.mean.value, behind.mean.standard_error, behind.mean.p_value) == (3.9, None, None)
    assert (nothing.mean, nothing.shrinkage, nothing.gain) == (None, None, None)
    # One seed has both: 3.1 - 3.9.
    assert (found.difference.value, found.difference.low) == (pytest.approx(-0.8), None)


def test_the_last_attempt_counts_and_what_replaces_a_failed_run_does_not():
    lost = [Attempt(0, 1, "lost"), Attempt(0, 2, "valid", 3.0), Attempt(1, 1, "error"), Attempt(2, 1, "valid", 9.0)]
    found = confirmation({5: 4.0}, 2, lost)
    assert found.configurations[0].outcomes == {"valid": 1, "error": 1}
    assert found.configurations[0].mean.value == 3.0


def test_before_anything_has_run():
    found = confirmation({5: 4.0, 2: 3.9}, 2, [])
    assert [one.ordinal for one in found.configurations] == [2, 5]
    assert (found.configurations[0].mean, found.difference) == (None, None)
