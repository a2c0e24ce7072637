"""How often one caller is let in, and who counts as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import limits
from service.access.caller import Caller
from service.access.refusals import TooManyRequests
from service.store.settings import Settings


def test_a_rate_admits_a_burst_then_one_after_the_other():
    now = 0.0
    rate = limits.Rate(60, burst=10, clock=lambda: now)
    assert [rate.wait("a") for _ in range(10)] == [0.0] * 10
    assert rate.wait("a") == pytest.approx(1.0)
    assert rate.wait("b") == 0.0
    now = 1.0
    assert [rate.wait("a"), rate.wait("a")] == [0.0, pytest.approx(1.0)]
    now = 3.5
    assert [rate.wait("a"), rate.wait("a"), rate.wait("a")] == [0.0, 0.0, pytest.approx(0.5)]
    now = 1000.0
    assert [rate.wait("a") for _ in range(11)] == [0.0] * 10 + [pytest.approx(1.0)]


def test_no_limit_is_none_and_a_slow_rate_lets_one_in():
    free, slow = limits.Rate(0, burst=10), limits.Rate(1, burst=10)
    assert {free.wait("a") for _ in range(5000)} == {0.0}
    assert slow.wait("a") == 0.0
    assert 59 < slow.wait("a") <= 60


def test_who_is_quiet_is_forgotten():
    now = 0.0
    rate = limits.Rate(60, burst=10, clock=lambda: now)
    for number in range(10_001):
        rate.wait(str(number))
    now = 100.0
    rate.wait("last")
    assert list(rate._due) == ["last"]


def test_one_network_of_ipv6_is_one_caller():
    assert limits.key(Caller("2001:db8:1:2::1")) == limits.key(Caller("2001:db8:1:2:ffff::9"))
    assert limits.key(Caller("2001:db8:1:2::1")) != limits.key(Caller("2001:db8:1:3::1"))
    assert limits.key(Caller("10.0.0.1")) != limits.key(Caller("10.0.0.2"))
    assert limits.key(Caller("10.0.0.1", token_id="tk")) == limits.key(Caller("10.0.0.2", token_id="tk"))


def test_places_are_given_back():
    held = limits.Limits(Settings(max_requests=1, max_streams=2))
    one, other = Caller("a", token_id="1"), Caller("a", token_id="2")
    with (
        held.place(one, "requests"),
        held.place(other, "requests"),
        held.place(one, "streams"),
        pytest.raises(TooManyRequests, match="1 requests"),
        held.place(one, "requests"),
    ):
        pass
    with held.place(one, "requests"):
        pass


@given(
    st.integers(1, 5000),
    st.floats(0.1, 60),
    st.lists(st.floats(0, 20), max_size=200),
)
def test_no_window_has_more_than_a_burst_and_what_the_rate_gives(per_minute, burst, pauses):
    """And who waits as long as is said is let in."""
    now = 0.0
    rate = limits.Rate(per_minute, burst=burst, clock=lambda: now)
    most = max(burst * per_minute / 60, 1)
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        wait = rate.wait("a")
        if wait > 0:
            now += wait + 1e-6
            assert rate.wait("a") == 0.0
        admitted.append(now)
    for start in range(len(admitted)):
        for end in range(start, len(admitted)):
            window = admitted[end] - admitted[start]
            assert end - start + 1 <= most + window * per_minute / 60 + 1e-3
