"""What ``mudman bench`` says, of simulated trials."""

import json

import pytest

from mudman import presets
from mudman.__main__ import main
from mudman.pace import Pace, measured
from mudman.specs import parse

CHANGES = {"model.id": "simulated", "labels.seconds": "0.4"}


def spec(**changes):
    return parse(presets.load("quickstart", CHANGES | changes))


def test_a_trial_is_its_passes_and_a_study_its_trials():
    study = spec(**{"budget.unlearn_passes": 100, "attack.passes": 40, "budget.trials": 30})
    pace = Pace(start=9.0, unlearning=0.2, attack=0.5, device="cpu")
    assert pace.trial(study) == 100 * 0.2 + 40 * 0.5
    assert pace.study(study) == 40 * 30 / study.resources.max_concurrent
    without = spec(**{"method": {"type": "none"}, "constraint": None, "attack.passes": 40})
    assert pace.trial(without) == 40 * 0.5


def test_both_phases_are_timed():
    middles = {path: space.middle() for path, space in spec().search_space().items()}
    pace = measured(spec(), middles)
    assert pace.unlearning > 0 and pace.attack > 0 and pace.device == "simulated"


def test_a_phase_that_fails_says_why():
    with pytest.raises(RuntimeError, match="the relearn phase ended before it was timed"):
        measured(spec(), {}, seconds=-1)


def test_the_command_prints_it(capsys):
    arguments = ["bench", "quickstart", "--json", *(f"--set={path}='{value}'" for path, value in CHANGES.items())]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["device"] == "simulated" and printed["trial, s"] > 0
    assert main([*arguments, "--set=budget.trials=0"]) == 2
