"""A trial that was really run says beside its curves what a checker computes from them."""

from studies import small

import mudman
from mudman.preparation import prepare
from mudman.results import Outcome
from service.evidence import trial_numbers


def test_it_says_what_its_curves_say():
    spec = small({})
    result = mudman.run_trial(spec, {"unlearning_rate": 0.003})
    assert result.outcome is Outcome.VALID
    assert list(trial_numbers.of_result(spec, result)) == []
    assert list(trial_numbers.of_result(spec.model_copy(update={"constraint": None}), prepare(spec).baseline)) == []
    for changed in ({"value": 9.0}, {"forget_loss_final": 9.0}, {"retain_loss_unlearned": 1.0}, {"violation": 0.5}):
        [said] = trial_numbers.of_result(spec, result.model_copy(update=changed))
        assert said.startswith(next(iter(changed)))
    high = result.unlearning.model_copy(update={"retain_loss": (*result.unlearning.retain_loss[:-1], 99.0)})
    said = list(trial_numbers.of_result(spec, result.model_copy(update={"unlearning": high})))
    assert any("above its bound" in line for line in said)
