"""Means of last trials, worked by hand and by scipy."""

import math

import pytest
from scipy import stats

from service.statistics.differences import difference, gain, per_cent_of, verdict
from service.statistics.means import summarise


def test_the_last_of_them_by_both_conventions():
    # Of 9 values the last 4: 2, 4, 4, 6. Mean 4, squared deviations 4 + 0 + 0 + 4 = 8; ρ_1 = 0, ρ_2 + ρ_3 < 0.
    found = summarise([9, 0, 9, 0, 9, 2, 4, 4, 6], last=4)
    assert (found.n, found.last, found.mean, found.median, found.best) == (4, 4, 4.0, 4.0, 9)
    assert found.effective_n == 4
    assert found.standard_error == pytest.approx(math.sqrt(8 / 3) / 2)
    assert found.standard_error == pytest.approx(stats.sem([2, 4, 4, 6]))
    assert found.standard_error_published == pytest.approx(math.sqrt(8 / 4) / 2)
    assert found.standard_error_published == pytest.approx(stats.sem([2, 4, 4, 6], ddof=0))
    assert found.top10_mean == pytest.approx((9 + 0 + 9 + 0 + 9 + 2 + 4 + 4 + 6) / 9)


def test_neighbours_that_resemble_each_other_count_for_fewer():
    # 1, 2, 3, 4: ρ_1 = (0.75 − 0.25 + 0.75) / 5 = 1/4, ρ_2 + ρ_3 < 0; τ = 1 + 2/4.
    found = summarise([1.0, 2.0, 3.0, 4.0], last=4)
    assert found.effective_n == pytest.approx(4 / 1.5)
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3 / (4 / 1.5)))
    assert found.standard_error_published == pytest.approx(math.sqrt(5 / 4) / 2)


def test_fewer_than_asked_for():
    # 1 and 3: mean 2, squared deviations 2. Published: by the root of the 8 that were asked for.
    found = summarise([1.0, 3.0], last=8)
    assert (found.n, found.last, found.mean) == (2, 8, 2.0)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 1) / math.sqrt(2))
    assert found.standard_error_published == pytest.approx(math.sqrt(2 / 2) / math.sqrt(8))


def test_one_trial_has_no_standard_error_and_none_has_nothing():
    found = summarise([0.25], last=30)
    assert (found.n, found.standard_error, found.standard_error_published) == (1, None, 0.0)
    assert summarise([], last=30) is None


def test_best_and_the_ten_best_follow_the_direction():
    values = [float(n) for n in range(20)]
    high, low = summarise(values, last=1), summarise(values, last=1, minimise=True)
    assert (high.best, high.top10_mean) == (19, 14.5)
    assert (low.best, low.top10_mean) == (0, 4.5)


def test_differences():
    one, other = summarise([2, 4, 4, 6], last=4), summarise([1.0, 3.0], last=2)
    found = difference(one, other)
    assert found.value == 4 - 2
    assert found.standard_error == pytest.approx(math.sqrt((8 / 3) / 4 + 2 / 2))
    assert difference(other, one).value == -2
    assert difference(one, summarise([5.0], last=4)).standard_error is None
    over = gain(one, 1.5)
    assert (over.value, over.standard_error) == (2.5, one.standard_error)


@pytest.mark.parametrize(
    ("value", "p_value", "said"),
    [
        (0.1, 0.049, "better"),
        (-0.1, 0.049, "worse"),
        (9.0, 0.05, "not distinguishable"),
        (9.0, None, "not distinguishable"),
    ],
)
def test_verdict_at_five_per_cent(value, p_value, said):
    assert verdict(value, p_value) == said
    turned = {"better": "worse", "worse": "better"}.get(said, said)
    assert verdict(value, p_value, minimise=True) == turned


def test_shares():
    assert per_cent_of(1.5, 3.0) == 50
    assert per_cent_of(-0.1, -0.2) == 50, "where lower is better, gains are negative"
    assert per_cent_of(1.0, 0.0) is None
