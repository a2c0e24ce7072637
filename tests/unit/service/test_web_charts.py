"""Charts: coordinates worked out by hand."""

import pytest

from service.web.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, bars, curves, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1.9, 4.1, [2, 2.5, 3, 3.5, 4]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (3e-7, 9e-7, [4e-7, 6e-7, 8e-7]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_the_attack_follows_unlearning():
    unlearning = {"passes": [0, 100], "forget_loss": [2.0, 6.0], "retain_loss": [3.0, 3.0]}
    relearning = {"passes": [0, 50, 100], "forget_loss": [6.0, None, 4.0], "retain_loss": [3.0, 3.0, 3.0]}
    chart = curves(unlearning, relearning)
    forget, retain = chart.lines
    middle, end = LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT
    assert chart.attack == middle
    assert [x for x, _ in forget.points] == [LEFT, middle, middle, end]
    assert len(retain.points) == 5
    assert forget.path.count("M") == 2, "broken where the loss is no number"
    # From 2 to 6 with 6 % of room on either side: 4 is in the middle.
    assert forget.points[-1][1] == pytest.approx((TOP + HEIGHT - BOTTOM) / 2, abs=0.1)
    assert "forget loss from 2.0000 to 4.0000" in chart.said
    assert "after 200 passes" in chart.said


@pytest.mark.parametrize("nothing", [None, {}, {"passes": [0], "forget_loss": [None], "retain_loss": [None]}])
def test_of_curves_without_a_number_there_is_no_chart(nothing):
    assert curves(nothing, None) is None


def test_one_point_is_a_chart_too():
    assert len(curves({"passes": [0], "forget_loss": [2.0], "retain_loss": [3.0]}, {}).lines) == 2


def test_bars_are_as_long_as_their_means():
    chart = bars([("a", 4.0, 0.5), ("b", 2.0, None), ("c", None, None)], baseline=1.0, original=2.0)
    a, b, c = chart.bars
    assert a.width == pytest.approx(2 * b.width, abs=0.2)
    assert a.whisker[1] - a.whisker[0] == pytest.approx(a.width / 4, abs=0.2)
    assert (a.whisker[0] + a.whisker[1]) / 2 == pytest.approx(a.x + a.width, abs=0.2)
    assert b.whisker is None
    assert (c.width, c.label) == (0, "no valid trial")
    baseline, original = chart.levels
    assert baseline.at - a.x == pytest.approx(a.width / 4, abs=0.2)
    assert original.at - a.x == pytest.approx(a.width / 2, abs=0.2)
    assert chart.said == (
        "a: 4.0000 ± 0.5000; b: 2.0000; c: no valid trial; no unlearning: 1.0000; original model, not attacked: 2.0000"
    )


def test_negative_means_go_the_other_way():
    below, above = bars([("below", -1.0, None), ("above", 3.0, None)], None).bars
    assert below.x + below.width == pytest.approx(above.x, abs=0.2)
    assert above.width == pytest.approx(3 * below.width, abs=0.3)


def test_without_any_mean_there_are_no_bars():
    assert bars([("a", None, None)], baseline=1.0) is None


def test_while_a_phase_goes_on_there_is_room_for_the_rest_of_it():
    begun = {"passes": [0], "forget_loss": [2.0], "retain_loss": [3.0]}
    first = curves(begun, {}, of=100)
    assert (first.x_ticks[0].label, first.x_ticks[-1].label) == ("0", "100")
    assert first.said.endswith("after 0 passes")
    done = {"passes": [0, 100], "forget_loss": [2.0, 5.0], "retain_loss": [3.0, 3.1]}
    attacked = curves(done, begun, of=40)
    assert attacked.attack == pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) * 100 / 140, abs=0.1)
