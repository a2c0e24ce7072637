"""Where the best lie in their ranges, and how much further a range goes."""

import pytest

from mudman import presets
from mudman.specs import Range, parse
from service.statistics.saturation import place, position, widened
from service.widening import room, with_ranges

RATE = Range(low=1e-4, high=1.0, log=True)


def test_position():
    assert position(1e-2, RATE) == pytest.approx(0.5)
    assert position(12, Range(low=6, high=18, int=True)) == 0.5
    assert (position(1e-4, RATE), position(1.0, RATE)) == (0, 1)


def test_saturated_where_the_best_and_three_in_ten_lie_at_one_end():
    inside, high, low = {"rate": 1e-2}, {"rate": 0.9}, {"rate": 1.1e-4}
    found = place("rate", RATE, [high, high, high, low] + [inside] * 6)
    assert (found.at_edge, found.saturated) == ("high", "high")
    assert (found.top, found.top_low, found.top_high) == (10, 1, 3)
    assert place("rate", RATE, [high, high] + [inside] * 8).saturated is None
    assert place("rate", RATE, [high, high] + [inside] * 8).at_edge == "high", "the published check"
    assert place("rate", RATE, [inside] + [high] * 9).saturated is None
    assert place("rate", RATE, [low] * 10).saturated == "low"


def test_half_the_width_further():
    # Four decades: two more.
    longer = widened(RATE, "high")
    assert (longer.low, longer.high, longer.log) == (1e-4, pytest.approx(100.0), True)
    assert widened(RATE, "low").low == pytest.approx(1e-6)
    assert widened(Range(low=1.0, high=2.0), "high").high == 2.5
    assert widened(Range(low=6, high=24, int=True), "high").high == 33
    assert widened(Range(low=6, high=11, int=True), "high") == Range(low=6, high=14, int=True)


def test_ranges_as_wide_as_numbers_go():
    all_of_them = Range(low=1e-300, high=1e300, log=True)
    assert position(1.0, all_of_them) == pytest.approx(0.5)
    assert position(0.0, Range(low=-1.7e308, high=1.7e308)) == 0.5
    with pytest.raises(ValueError, match="finite"):
        widened(all_of_them, "high")
    spec = parse(presets.load("quickstart", {"method.unlearning_rate": all_of_them.model_dump()}))
    assert room(spec, "unlearning_rate", "high") is None


def test_no_further_than_the_setting_goes():
    spec = parse(presets.load("quickstart"))
    # Momentum, searched in [0.5, 0.95], is a share; a fork is made every loop at most.
    assert room(spec, "retain_momentum", "high") == Range(low=0.5, high=1.0)
    assert room(spec, "retain_momentum", "low").low == pytest.approx(0.275)
    assert room(spec, "fork_every", "low") == Range(low=1.0, high=24.0, int=True)
    assert room(spec, "unlearning_rate", "high").high == pytest.approx(0.02 * 20**0.5)
    whole = presets.load("quickstart", {"method.retain_momentum": {"low": 0.0, "high": 1.0}})
    assert room(parse(whole), "retain_momentum", "high") is None


def test_ranges_below_other_fields():
    document = presets.load("quickstart", {"method.adversary.decay": {"low": 0.3, "high": 0.9}})
    made = with_ranges(document, {"adversary.decay": Range(low=0.1, high=0.9)})
    assert parse(made).search_space()["adversary.decay"] == Range(low=0.1, high=0.9)
    assert document["method"]["adversary"]["decay"]["low"] == 0.3, "the old one is left alone"
