"""What plain Optuna reads of a study, for every outcome, and that it may ask and tell beside ours."""

import pytest
from optuna import load_study
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import select
from sqlalchemy.pool import NullPool
from test_leases import claim, spec

from mudman.results import Curve, Fault, Outcome, TrialResult
from service.store import attempts, optuna_rows, standing, studies
from service.store.database import optuna_url
from service.store.tables import Trial

SPACE = {
    "unlearning_rate": FloatDistribution(1e-7, 0.3, log=True),
    "retain_momentum": FloatDistribution(0.0, 0.99),
    "fork_every": IntDistribution(6, 42),
    "rank": IntDistribution(1, 64, log=True),
}
CHOSEN = {"unlearning_rate": 1.25e-3, "retain_momentum": 0.1, "fork_every": 7, "rank": 16}
CURVE = Curve(passes=(0, 30, 60), forget_loss=(4.0, float("inf"), 3.5), retain_loss=(3.0, 3.0, 3.0))


@pytest.fixture
def study(new_database):
    """The database, the lease and the id of a study that Optuna knows."""
    store = new_database()
    with store.begin() as session:
        study_id = studies.create(session, spec("read back")).study.id
        optuna_rows.create(session, study_id, "maximize")
    return store, claim(store), study_id


def begin(study, ordinal: int, attempt: int = 1, **more) -> None:
    store, lease, study_id = study
    distributions = {name: distribution_to_json(given) for name, given in SPACE.items()}
    with store.begin() as session:
        started = attempts.start(
            session, lease, study_id, ordinal, attempt, CHOSEN, distributions=distributions, **more
        )
        assert started


def end(study, ordinal: int, result: TrialResult, attempt: int = 1) -> None:
    store, lease, study_id = study
    with store.begin() as session:
        assert attempts.record(session, lease, study_id, ordinal, attempt, result)


def at_optuna(study, **options):
    store, _, study_id = study
    storage = RDBStorage(optuna_url(store.url), engine_kwargs={"poolclass": NullPool})
    return load_study(study_name=study_id, storage=storage, **options)


ENDS = {
    Outcome.VALID: (TrialResult(outcome="valid", value=3.5, violation=-0.25, relearning=CURVE), "COMPLETE", -0.25),
    Outcome.OVER_RETAIN_BUDGET: (TrialResult(outcome="over_retain_budget", violation=0.5), "PRUNED", 0.5),
    Outcome.DIVERGED: (TrialResult(outcome="diverged"), "PRUNED", 1000.0),
    Outcome.PRUNED: (TrialResult(outcome="pruned", violation=-0.5, relearning=CURVE), "PRUNED", -0.5),
    Outcome.OUT_OF_MEMORY: (TrialResult(outcome="out_of_memory"), "FAIL", None),
    Outcome.LOST: (TrialResult(outcome="lost"), "FAIL", None),
    Outcome.CANCELLED: (TrialResult(outcome="cancelled", violation=0.5), "FAIL", None),
    Outcome.ERROR: (
        TrialResult(outcome="error", fault=Fault(type="ValueError", message='a "b"\x00 \\ ü')),
        "FAIL",
        None,
    ),
}


def test_every_outcome_is_read_back(study):
    assert ENDS.keys() == set(Outcome)
    for ordinal, (result, _, _) in enumerate(ENDS.values()):
        begin(study, ordinal, opened=(ordinal - 1,) if ordinal else ())
        end(study, ordinal, result)
    begin(study, 5, attempt=2)  # that which was lost runs again
    found = at_optuna(study)
    trials = found.trials
    assert [trial.number for trial in trials] == list(range(9))
    for trial, (outcome, (result, state, violation)) in zip(trials, ENDS.items(), strict=False):
        assert trial.params == CHOSEN
        assert trial.distributions == SPACE
        assert trial.state is TrialState[state]
        assert trial.value == result.value
        assert trial.constraints == ({} if violation is None else {optuna_rows.CONSTRAINT: violation})
        assert trial.intermediate_values == ({0: 4.0, 60: 3.5} if result.relearning.passes else {})
        opened = [trial.number - 1] if trial.number else []
        notes = {"ordinal": trial.number, "attempt": 1, "open_when_asked": opened}
        if outcome is not Outcome.VALID:
            notes["end_reason"] = 'error: ValueError: a "b" \\ ü' if outcome is Outcome.ERROR else outcome.value
        assert trial.user_attrs == notes
        assert trial.datetime_start <= trial.datetime_complete
    assert (trials[8].state, trials[8].user_attrs) == (TrialState.RUNNING, {"ordinal": 5, "attempt": 2})
    assert found.best_trial.number == 0
    with study[0].begin() as session:
        assert standing.counts(session, study[2]) == {str(outcome): 1 for outcome in Outcome} | {"running": 1}
        reasons = dict(session.execute(select(Trial.ordinal, Trial.reason).where(Trial.attempt == 1)).tuples().all())
        history = [row.ending for row in attempts.history(session, study[2])]
    assert reasons == {trial.number: trial.user_attrs.get("end_reason", "valid") for trial in trials[:8]}
    assert [ending.violation for ending in history if ending] == [result.violation for result, _, _ in ENDS.values()]


def test_the_best_is_feasible_though_another_has_a_better_value(study):
    for ordinal, (value, violation) in enumerate([(3.0, -0.1), (9.0, 0.1), (5.0, -0.1)]):
        begin(study, ordinal)
        end(study, ordinal, TrialResult(outcome=Outcome.VALID, value=value, violation=violation))
    assert at_optuna(study).best_trial.number == 2


def test_a_notebook_may_ask_and_tell_beside_ours(study):
    """Numbers stay unique and contiguous, its trials are not ours, and a pruner reads our curves."""
    begin(study, 0)
    theirs = at_optuna(study, sampler=RandomSampler(seed=0), pruner=MedianPruner(n_startup_trials=1))
    asked = theirs.ask(SPACE)
    assert asked.number == 1
    begin(study, 1)
    end(study, 0, ENDS[Outcome.VALID][0])
    end(study, 1, ENDS[Outcome.VALID][0])
    asked.report(1.0, step=60)
    assert asked.should_prune(), "3.5 at 60 passes is the median of ours"
    theirs.tell(asked, 99.0)
    second = theirs.ask(SPACE)
    begin(study, 2)
    assert second.number == 3
    found = at_optuna(study)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 4]
    assert [trial.user_attrs.get("ordinal") for trial in found.trials] == [0, None, 1, None, 2]
    assert found.best_value == 99.0
    store, _, study_id = study
    with store.begin() as session:
        assert standing.best(session, studies.get(session, study_id)).value == 3.5
        assert standing.counts(session, study_id) == {"valid": 2, "running": 1}


def test_a_repeated_start_adds_nothing(study):
    begin(study, 0)
    store, lease, study_id = study
    distributions = {name: distribution_to_json(given) for name, given in SPACE.items()}
    with store.begin() as session:
        assert not attempts.start(session, lease, study_id, 0, 1, CHOSEN, distributions=distributions)
    assert [trial.number for trial in at_optuna(study).trials] == [0]
