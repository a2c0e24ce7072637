"""Autocorrelation and what a series is worth, by definition and by theory."""

import numpy as np
import pytest
from series import autoregressive

from service.statistics.autocorrelation import autocorrelations, correlation_time, effective_size


def test_by_definition():
    values = list(np.random.default_rng(0).normal(size=31))
    centred = np.array(values) - np.mean(values)
    lags = [float((centred[k:] * centred[: 31 - k]).sum() / (centred**2).sum()) for k in range(31)]
    assert autocorrelations(values) == pytest.approx(lags, abs=1e-12)


# statsmodels 0.15: statsmodels.tsa.stattools.acf([2, 7, 1, 8, 2, 8, 1, 8, 2, 8], nlags=3)
STATSMODELS = [1.0, -0.8867482161060142, 0.8177370030581042, -0.7091743119266056]


def test_agrees_with_statsmodels():
    found = autocorrelations([2, 7, 1, 8, 2, 8, 1, 8, 2, 8])[:4]
    assert found == pytest.approx(STATSMODELS, abs=1e-9)


def test_time_of_a_process_with_a_known_one():
    # Of x_t = φ x_{t−1} + e_t it is (1 + φ) / (1 − φ): 3 for φ = 1/2.
    values = autoregressive(100_000, 0.5, np.random.default_rng(1))
    assert correlation_time(values) == pytest.approx(3.0, rel=0.05)
    assert effective_size(values) == pytest.approx(100_000 / 3, rel=0.05)


@pytest.mark.parametrize("values", [[3.0] * 9, [1.0, 2.0, 3.0], [1.0, -1.0] * 20, [5.0]])
def test_never_worth_more_than_it_is(values):
    assert correlation_time(values) == 1.0
    assert effective_size(values) == len(values)


def test_never_worth_less_than_one():
    assert effective_size(list(range(1000))) >= 1
