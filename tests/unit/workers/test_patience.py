"""Leases are judged only after their holders could renew them."""

import pytest

from workers.patience import Patience


@pytest.fixture
def patience() -> Patience:
    """Of a dispatcher that began at 100 s, with the default leases."""
    return Patience(renewal=5, expiry=20, now=100)


def test_a_new_dispatcher_waits_until_every_holder_had_its_turn(patience):
    assert not patience.over(110)
    assert patience.over(110.1)


def test_after_an_outage_a_lease_may_run_its_whole_length(patience):
    patience.away(200)
    assert not patience.over(220)
    assert patience.over(220.1)


@pytest.mark.parametrize("set_by", [3600, -3600, 8])
def test_a_clock_that_was_set_counts_as_an_outage(patience, set_by):
    patience.look(5000, 200, 200.1)
    patience.look(5001, 201, 201.1)
    assert patience.over(201)
    patience.look(5002 + set_by, 202, 202.1)
    assert not patience.over(222)
    patience.look(5022.5 + set_by, 222.5, 222.6)
    assert patience.over(222.6)


def test_a_slow_answer_and_a_clock_that_is_slewed_do_not(patience):
    for second in range(100):
        slow = 19 * (second % 7 == 3)
        patience.look(5000 + 1.05 * second, 200 + second, 200 + second + slow)
        assert patience.over(200 + second)
