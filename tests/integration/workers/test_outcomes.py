"""Each outcome of a trial, from its result to what counts, what runs again and what the sampler learns: the table of
outcomes, row by row, in rows, book and mirror. No Ray here."""

import pytest

from mudman.results import Curve, Fault, Outcome, TrialResult
from service.store import optuna_rows
from service.store.attempts import Ending

FAULT = Fault(type="ValueError", message="shapes do not fit", traceback="Traceback …")
CURVE = Curve(passes=(0, 20), forget_loss=(3.5, 3.1), retain_loss=(3.0, 3.0))

ROWS = {
    # Outcome: Optuna's state, what the sampler is told as the violation, does it count, does it run again by itself
    Outcome.VALID: ("COMPLETE", -0.5, True, False),
    Outcome.OVER_RETAIN_BUDGET: ("PRUNED", 0.5, True, False),
    Outcome.DIVERGED: ("PRUNED", 1000.0, True, False),
    Outcome.PRUNED: ("PRUNED", -0.5, True, False),
    Outcome.OUT_OF_MEMORY: ("FAIL", None, False, False),
    Outcome.LOST: ("FAIL", None, False, True),
    Outcome.CANCELLED: ("FAIL", None, False, True),
    Outcome.ERROR: ("FAIL", None, False, False),
}


def result(outcome: Outcome) -> TrialResult:
    measured = {Outcome.VALID: -0.5, Outcome.OVER_RETAIN_BUDGET: 0.5, Outcome.PRUNED: -0.5}
    return TrialResult(
        outcome=outcome,
        value=3.1 if outcome is Outcome.VALID else None,
        violation=measured.get(outcome),
        relearning=CURVE if outcome in (Outcome.VALID, Outcome.PRUNED) else Curve(),
        fault=FAULT if outcome in (Outcome.ERROR, Outcome.OUT_OF_MEMORY) else None,
    )


def test_the_table_has_every_outcome():
    assert set(ROWS) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_row_of_the_table(case, monkeypatch, outcome):
    state, violation, counts, again = ROWS[outcome]
    one = case(trials=1)
    study = one.take_over()
    told = []
    tell = study._mirror.tell
    monkeypatch.setattr(study._mirror, "tell", lambda ordinal, ending: (told.append(ending), tell(ordinal, ending)))
    first = study.next()
    study.settle(first, result(outcome))

    assert optuna_rows.STATES[outcome] == state
    assert one.at_optuna() == [(state, violation)]
    assert (study.book.counted, study.book.complete) == (counts, counts)
    assert one.counts() == {outcome: 1}
    if again:
        assert told == [], "the sampler waits for the next attempt"
        following = study.next()
        assert (following.ordinal, following.attempt) == (0, 2)
        assert following.hyperparameters == first.hyperparameters
    else:
        assert [ending.outcome for ending in told] == [outcome]
        assert optuna_rows.violation_of(outcome, told[0].violation) == violation
        following = study.next()
        assert (following is None) if counts else ((following.ordinal, following.attempt) == (1, 1))
    assert study.book.wasted == (not counts and not again)


def test_a_lost_trial_is_final_after_three_attempts_and_others_are_not(case):
    one = case(trials=1)
    study = one.take_over()
    for outcome in (Outcome.CANCELLED, Outcome.LOST, Outcome.CANCELLED, Outcome.LOST, Outcome.CANCELLED, Outcome.LOST):
        attempt = study.next()
        assert attempt.ordinal == 0
        study.settle(attempt, result(outcome))
    assert study.next().ordinal == 1
    assert study.book.wasted == 1


def test_an_error_keeps_its_traceback(case):
    one = case()
    study = one.take_over()
    study.settle(study.next(), result(Outcome.ERROR))
    [trial] = one.trials()
    assert trial.result["fault"] == FAULT.model_dump()
    assert Ending.of(result(Outcome.ERROR)).reason == "error: ValueError: shapes do not fit"
