"""Holm's correction, by hand and as statsmodels has it."""

import pytest

from service.statistics.holm import adjusted


def test_by_hand():
    # 3 · 0.01; 2 · 0.02; 1 · 0.03, raised to the one before.
    found = adjusted({"b": 0.02, "a": 0.01, "c": 0.03})
    assert found == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})
    assert adjusted({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert adjusted({}) == {}


def test_agrees_with_statsmodels():
    # statsmodels 0.15: multipletests(p, method="holm")[1]
    p_values = [0.004, 0.03, 0.011, 0.2, 0.049]
    found = adjusted(dict(enumerate(p_values)))
    assert [found[place] for place in range(5)] == pytest.approx([0.02, 0.09, 0.044, 0.2, 0.098])
