"""Simulated trials behave as trials do to everything but the core."""

import time

import pytest

from mudman import presets, run_trial
from mudman.faults import SpecError
from mudman.results import Decision, Outcome
from mudman.specs import parse


def simulated(**labels: str):
    return parse(presets.load("quickstart", {"model.id": "simulated", "labels": labels}))


def values(spec) -> dict[str, float]:
    return {name: space.middle() for name, space in spec.search_space().items()}


def run(report=None, **labels: str):
    return run_trial(simulated(**labels), values(simulated()), report)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_outcome_may_be_chosen(outcome):
    result = run(outcome=outcome.value)
    assert result.outcome is outcome
    assert (result.value is not None) == (outcome is Outcome.VALID)
    assert (result.fault is not None) == (outcome is Outcome.ERROR)
    assert (result.violation is not None) == outcome.counts


def test_a_trial_repeats_exactly_and_depends_on_its_hyperparameters():
    spec = simulated()
    middle, other = values(spec), {**values(spec), "unlearning_rate": 0.5}
    assert run_trial(spec, middle).value == run_trial(spec, middle).value != run_trial(spec, other).value


def test_mixed_outcomes_are_decided_by_the_hyperparameters():
    spec = simulated(outcome="mixed")
    points = [{**values(spec), "unlearning_rate": 0.001 * i} for i in range(1, 60)]
    outcomes = [run_trial(spec, point).outcome for point in points]
    assert set(outcomes) == {Outcome.VALID, Outcome.OVER_RETAIN_BUDGET, Outcome.DIVERGED}
    assert outcomes == [run_trial(spec, point).outcome for point in points]


def test_the_duration_may_be_chosen():
    started = time.monotonic()
    assert run(seconds="0.2").seconds >= 0.2
    assert time.monotonic() - started >= 0.2


def test_an_order_to_stop_is_followed():
    seen = []
    result = run(report=lambda progress: seen.append(progress) or Decision.STOP, seconds="100")
    assert (result.outcome, len(seen)) == (Outcome.CANCELLED, 1)


def test_hyperparameters_are_checked_as_for_any_trial():
    with pytest.raises(SpecError, match="is no number of this method"):
        run_trial(simulated(), {**values(simulated()), "colour": 1.0})


@pytest.mark.parametrize(
    ("label", "value"), [("seconds", "soon"), ("seconds", "-1"), ("seconds", "nan"), ("outcome", "fine")]
)
def test_labels_that_ask_for_nothing_known_are_named(label, value):
    with pytest.raises(SpecError, match=f"labels.{label}: '{value}'"):
        run(**{label: value})
