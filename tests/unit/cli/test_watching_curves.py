"""Curves in a terminal."""

from service.cli.watching import curve, running

SAID = {
    "unlearning": {"passes": [0, 50], "forget_loss": [2.0, 9.0], "retain_loss": [3.0, 3.0]},
    "relearning": {"passes": [0, 10], "forget_loss": [None, 6.0], "retain_loss": [3.0, 3.0]},
}


def test_a_curve_goes_from_its_first_to_its_last_loss():
    assert curve(SAID) == "  forget loss 2.0000 ▁█▅ 6.0000"


def test_a_long_one_is_thinned_and_keeps_its_ends():
    drawn = curve({"unlearning": {"forget_loss": [float(n) for n in range(500)]}})
    assert drawn.startswith("  forget loss 0.0000 ▁")
    assert drawn.endswith("█ 499.0000")
    assert len(drawn.split()[3]) == 24


def test_one_point_is_no_curve():
    assert curve({"unlearning": {"forget_loss": [2.0]}}) == curve(None) == ""


def test_a_level_one_has_no_height():
    assert curve({"unlearning": {"forget_loss": [2.0, 2.0]}}) == "  forget loss 2.0000 ▁▁ 2.0000"


def test_each_running_trial_has_its_own():
    live = [{"ordinal": n, "attempt": 1, "phase": "relearn", "passes": 10, "of": 40} for n in (3, 4)]
    study = {"state": "running", "progress": {"live": live}}
    with_curve, without = running(study, {3: SAID})
    assert with_curve.startswith("trial 3: under attack, pass 10 of 40  forget loss 2.0000")
    assert without == "trial 4: under attack, pass 10 of 40"
