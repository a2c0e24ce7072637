"""A trial's numbers against its own curves, where the curves are not what a trial writes."""

from mudman import presets
from mudman.results import Curve, Outcome, TrialResult
from mudman.specs import parse
from service.evidence import trial_numbers


def test_a_valid_trial_without_a_retain_loss_to_begin_with():
    spec = parse(presets.load("quickstart"))
    assert spec.constraint.retain_loss_increase is not None
    curve = Curve(passes=(0, 30), forget_loss=(2.0, 3.0), retain_loss=(None, 3.0))
    result = TrialResult(outcome=Outcome.VALID, value=3.0, unlearning=curve, relearning=curve)
    said = list(trial_numbers.of_result(spec, result))
    assert "unlearning.retain_loss.0: None is stated, and a valid trial has a number there" in said
