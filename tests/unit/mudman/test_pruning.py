"""Cuts of early stopping: hand-worked, and the same verdicts as Optuna's pruners on the same curves."""

from itertools import accumulate

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import MedianPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState, create_trial

from mudman import presets, run_trial
from mudman.faults import SpecError
from mudman.pruning import Told, cuts, judged_curve
from mudman.results import Curve, Outcome
from mudman.specs import ObjectiveSpec, parse

CHECKS = tuple(range(2, 22, 2))
"""Of a simulated attack of 20 passes: ten."""


def spec(pruner, **overrides):
    settings = {"model.id": "simulated", "labels": {}, "attack.passes": 20, "pruner": pruner}
    return parse(presets.load("quickstart", settings | overrides))


def valid(*values: float) -> Told:
    return Told(True, dict(zip(CHECKS, values, strict=False)))


def stopped(*values: float) -> Told:
    return Told(False, dict(zip(CHECKS, values, strict=False)))


# -------------------------------------------------------------------------------------------------------- hand-worked


def test_the_median_of_valid_trials_at_each_check_but_the_last():
    told = [valid(*[3.0] * 10), valid(*[5.0] * 10), valid(*[4.0] * 9, 1.0), stopped(0.0, 0.0)]
    assert cuts(spec({"type": "median", "startup_trials": 3}), told) == dict.fromkeys(CHECKS[:-1], 4.0)
    assert cuts(spec({"type": "median", "startup_trials": 4}), told) == {}, "only three are valid"
    assert cuts(spec({"type": "median", "startup_trials": 3, "warmup_passes": 17}), told) == {18: 4.0}


def test_the_best_quarter_goes_on():
    told = [valid(*[float(value)] * 10) for value in (1, 2, 3, 4, 5)]
    assert cuts(spec("percentile"), told)[2] == 4.0, "a value of 4 has a quarter of the five above it"
    assert cuts(spec({"type": "percentile", "percentile": 100}), told)[2] == 1.0


def test_successive_halving_lets_one_in_so_many_pass_each_rung():
    told = [stopped(1.0), stopped(2.0), valid(4.0, 4.0, 4.0, 4.0), stopped(3.0), valid(5.0, 3.0, 3.0, 3.0)]
    found = cuts(spec({"type": "successive_halving", "reduction_factor": 2}), told)
    # Rungs at 2, 4, 8 and 16 passes. At 2 it is one of six, of whom three pass; at 4 and at 8 one of three, one passes.
    assert found == {2: 3.0, 4: 4.0, 8: 4.0}
    assert cuts(spec({"type": "successive_halving", "min_passes": 5}), told) == {6: 4.0}, "the first check behind 5"
    assert cuts(spec("successive_halving"), []) == {}, "the first trial has nobody to be compared with"


def test_a_threshold_needs_no_trial():
    found = cuts(spec({"type": "threshold", "lower": 2.5, "warmup_passes": 10}), [])
    assert found == {10: 2.5, 12: 2.5, 14: 2.5, 16: 2.5, 18: 2.5}


def test_what_is_judged_is_the_objective_as_it_stands_at_the_check():
    curve = Curve(passes=(0, 30, 60, 90), forget_loss=(9.0, 5.0, 3.0, 4.0), retain_loss=(1.0,) * 4)
    assert judged_curve(curve, ObjectiveSpec()) == {30: 5.0, 60: 3.0, 90: 3.0}
    assert judged_curve(curve, ObjectiveSpec(reduce="final")) == {30: 5.0, 60: 3.0, 90: 4.0}
    assert Told.of(Outcome.OVER_RETAIN_BUDGET, Curve(), ObjectiveSpec()) is None
    assert Told.of(Outcome.ERROR, curve, ObjectiveSpec()) is None
    assert Told.of(Outcome.DIVERGED, curve, ObjectiveSpec()) == Told(False, {30: 5.0, 60: 3.0, 90: 3.0})


def test_checks_are_where_loops_cross_the_multiples():
    attack = parse(presets.load("quickstart", {"attack.passes": 20, "attack.check_every": 7})).attack
    assert attack.checks() == (8, 14, 20)
    assert attack.model_copy(update={"retain": True}).checks() == (8, 16, 20)
    assert attack.model_copy(update={"check_every": 30}).checks() == (20,)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_only_a_curve_can_be_judged():
    questions = {"type": "multiple_choice", "questions": "wmdp-bio", "measures": "forget"}
    accuracy = {"metric": "wmdp_accuracy", "reduce": "final", "direction": "minimize"}
    with pytest.raises(SpecError) as refusal:
        spec("median", evaluations=[questions], objective=accuracy)
    assert [fault.path for fault in refusal.value.faults] == ["pruner"]
    assert "measured after the attack only" in str(refusal.value)


def test_no_preset_stops_early():
    for name in presets.names():
        document = presets.load(name)
        assert "pruner" not in document
        assert not any("pruner" in path for o in document.get("variants", {}).values() for path in o)


# ----------------------------------------------------------------------------------------------------- simulated trials


def test_a_trial_below_a_cut_ends_there_and_books_what_it_skipped():
    study = spec("median")
    middle = {name: space.middle() for name, space in study.search_space().items()}
    whole = run_trial(study, middle)
    assert (whole.outcome, whole.passes_skipped) == (Outcome.VALID, 0), "without cuts nothing is pruned"
    at = dict(zip(whole.relearning.passes, whole.relearning.forget_loss, strict=True))
    assert run_trial(study, middle, cuts={6: at[6]}).outcome is Outcome.VALID, "on the cut is not below it"

    pruned = run_trial(study, middle, cuts={2: 0.0, 6: at[6] + 0.01})
    unlearning = study.budget.unlearn_passes
    assert pruned.outcome is Outcome.PRUNED
    assert (pruned.value, pruned.judged, pruned.pruned_below) == (None, at[6], at[6] + 0.01)
    assert (pruned.stopped_at_pass, pruned.passes_booked, pruned.passes_skipped) == (unlearning + 6, unlearning + 6, 14)
    assert pruned.relearning.passes == (2, 4, 6)
    assert Outcome.PRUNED.counts
    assert not Outcome.PRUNED.runs_again


# ------------------------------------------------------------------------------------------------------- Optuna's rules

DROPS = st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0]), min_size=10, max_size=10)
FALLING = st.builds(
    lambda start, drops: [start - fallen for fallen in accumulate(drops)], st.sampled_from([3.0, 3.5, 4.0, 6.0]), DROPS
)
"""Ties are common."""


@settings(deadline=None, max_examples=60)
@given(
    curves=st.lists(FALLING, max_size=8),
    trial=FALLING,
    startup=st.integers(0, 4),
    warmup=st.sampled_from([0, 3, 8]),
    percentile=st.sampled_from([10.0, 25.0, 50.0, 90.0]),
)
def test_median_and_percentile_decide_as_optunas(curves, trial, startup, warmup, percentile):
    """Optuna judges the best value so far: it is shown the value at the check alone, as ours judges it."""
    common = {"startup_trials": startup, "warmup_passes": warmup}
    pairs = [
        (spec({"type": "median", **common}), MedianPruner(startup, warmup)),
        (
            spec({"type": "percentile", "percentile": percentile, **common}),
            PercentilePruner(percentile, startup, warmup),
        ),
    ]
    for study, theirs in pairs:
        found = cuts(study, [valid(*curve) for curve in curves])
        optunas = optuna.create_study(direction="maximize", pruner=theirs)
        for curve in curves:
            steps = dict(zip(CHECKS, curve, strict=True))
            optunas.add_trial(create_trial(value=curve[-1], intermediate_values=steps))
        for check, value in list(zip(CHECKS, trial, strict=True))[:-1]:
            asked = optunas.ask()
            asked.report(value, check)
            assert (value < found.get(check, float("-inf"))) == asked.should_prune()
            optunas.tell(asked, state=TrialState.FAIL)


@settings(deadline=None, max_examples=60)
@given(curves=st.lists(FALLING, min_size=4, max_size=16), factor=st.integers(2, 4), least=st.integers(2, 5))
def test_successive_halving_decides_as_optunas(curves, factor, least):
    """Every rung has a check of its own, as checks are not farther apart than the first rung is wide."""
    study = spec({"type": "successive_halving", "min_passes": least, "reduction_factor": factor})
    optunas = optuna.create_study(
        direction="maximize", pruner=SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
    )
    told: list[Told] = []
    for curve in curves:
        found, asked = cuts(study, told), optunas.ask()
        seen = []
        for check, value in list(zip(CHECKS, curve, strict=True))[:-1]:
            asked.report(value, check)
            seen.append(value)
            pruned = value < found.get(check, float("-inf"))
            assert asked.should_prune() == pruned
            if pruned:
                break
        optunas.tell(asked, state=TrialState.PRUNED if pruned else TrialState.COMPLETE, values=None if pruned else 1.0)
        told.append(stopped(*seen) if pruned else valid(*curve))
