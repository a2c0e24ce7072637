"""Studies of simulated trials from queue to end: real dispatcher, runner, Ray and Postgres."""

import json
from itertools import pairwise

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from service.store import standing, studies
from service.store.database import optuna_url
from service.store.states import Action
from service.store.tables import Trial


def optuna_trials(site, study_id: str) -> list[optuna.trial.FrozenTrial]:
    """What anybody with plain Optuna reads."""
    storage = RDBStorage(optuna_url(site.database.url))
    try:
        return optuna.load_study(study_name=study_id, storage=storage).trials
    finally:
        storage.engine.dispose()


def test_studies_run_to_their_ends(site):
    """Two to their budgets, three into failures of different kinds, one until it is cancelled."""
    site.environment["MUDMAN_LOG_FORMAT"] = "json"
    completed = site.submit(name="completes", trials=12, outcome="mixed", max_concurrent=2)
    pruned = site.submit(name="prunes", trials=12, startup_trials=3, pruner="median")
    failed = site.submit(name="fails", trials=3, outcome="error")
    unfit = site.submit(name="does not fit", model="./no-such-folder")
    large = site.submit(name="asks for too much", gpus=3)
    site.dispatch()
    site.until_state(completed, "completed")
    site.until_state(pruned, "completed")
    site.until_state(failed, "failed")
    site.until_state(unfit, "failed")
    site.until_state(large, "failed")
    assert_complete(site, completed)
    assert_told(site, completed)
    assert_pruned(site, pruned)
    assert_failed(site, failed)
    assert_unfit(site, unfit, "model.id", "/model/id")
    fault = assert_unfit(site, large, "resources.gpus", "/resources/gpus")
    assert fault["detail"] == "asks for 3 and the largest node has 2"

    cancelled = site.submit(name="is cancelled", trials=100, seconds=10.0, max_concurrent=2)
    worker = site.until("a trial runs", lambda: site.worker_of(cancelled))
    site.change_state(cancelled, Action.CANCEL)
    site.until("no trial runs", lambda: all(row.outcome for row in site.trials(cancelled)), 5)
    site.until("the worker is free", lambda: not psutil.pid_exists(worker), 5)
    assert {row.outcome for row in site.trials(cancelled)} == {"cancelled"}
    site.until("the lease is given back", lambda: site.group(cancelled).expires_at is None, 10)
    assert site.state(cancelled) == "cancelled"
    assert {trial.state for trial in optuna_trials(site, cancelled)} == {TrialState.FAIL}


@pytest.mark.long
def test_fractions_share_cards_and_a_trial_may_have_several(site):
    """Four trials at half a card run at once on two cards; one without cards sees none; at two cards each they follow
    one another and see both.

    Trials that would outlast the test: a short one may end before the next actor has started, and gives it its own.
    """
    study = site.submit(name="shares", trials=8, seconds=120.0, gpus=0.5, cpus=0.5, max_concurrent=4)
    site.dispatch()
    live = run_at_once(site, study, 4)
    assert sorted(trial.worker["device"] for trial in live) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert len({trial.worker["pid"] for trial in live}) == 4

    without = site.submit(name="no card", trials=1, seconds=120.0, gpus=0)
    [alone] = run_at_once(site, without, 1)
    assert alone.worker["device"] == "cpu"

    several = site.submit(name="several", trials=3, seconds=0.5, gpus=2, cpus=0.5, max_concurrent=3)
    site.until_state(several, "completed")
    rows = site.trials(several)
    assert {trial.worker["device"] for trial in rows} == {"cuda:0,1"}
    assert all(before.finished_at <= after.started_at for before, after in pairwise(rows))


def run_at_once(site, study_id: str, count: int) -> list[Trial]:
    """That many live trials of the study; then it is cancelled, and its places are free."""

    def live():
        found = [trial for trial in site.trials(study_id) if trial.outcome is None and trial.worker]
        return found if len(found) == count else None

    found = site.until(f"{count} trials run at once", live)
    site.change_state(study_id, Action.CANCEL)
    site.until("the lease is given back", lambda: site.group(study_id).expires_at is None, 60)
    return found


def assert_told(site, study_id: str) -> None:
    """Every line is an object; the end of each attempt names it, and the runner that saw it."""
    lines = [json.loads(line) for line in site.log().splitlines()]
    ends = [line for line in lines if line["logger"] == "workers.study" and line.get("study_id") == study_id]
    assert sorted((line["ordinal"], line["attempt"]) for line in ends) == [(n, 1) for n in range(12)]
    group = site.group(study_id)
    assert {(line["group"], line["epoch"]) for line in ends} == {(group.id, group.epoch)}


def assert_pruned(site, study_id: str) -> None:
    """The workers were told where to cut, and made no pass after that."""
    cut = [row for row in site.trials(study_id) if row.outcome == "pruned"]
    assert len(cut) >= 2
    assert all(row.passes_skipped > 0 and row.result["stopped_at_pass"] == row.passes_booked for row in cut)
    states = {trial.user_attrs["ordinal"]: trial.state for trial in optuna_trials(site, study_id)}
    assert {states[row.ordinal] for row in cut} == {TrialState.PRUNED}


def assert_failed(site, study_id: str) -> None:
    """More than twenty trials ended in an error: the study says so and stops."""
    rows = site.trials(study_id)
    assert [row.ordinal for row in rows] == list(range(21))
    assert {row.outcome for row in rows} == {"error"}
    assert all(row.result["fault"]["type"] == "SimulatedFault" for row in rows)
    with site.database.begin() as session:
        problem = studies.get(session, study_id).problem
    assert problem["type"] == "urn:mudman:problem:too-many-failed-trials"
    assert "21 trials" in problem["detail"]
    reasons = {trial.user_attrs["end_reason"] for trial in optuna_trials(site, study_id)}
    assert reasons == {"error: SimulatedFault: asked for"}


def assert_unfit(site, study_id: str, path: str, pointer: str) -> dict[str, str]:
    """What only the cluster can know is found before the first trial, and told like a fault seen at the door."""
    assert site.trials(study_id) == []
    with site.database.begin() as session:
        problem = studies.get(session, study_id).problem
    assert problem["type"] == "urn:mudman:problem:unfit-spec"
    [fault] = problem["errors"]
    assert (fault["path"], fault["pointer"]) == (path, pointer)
    assert fault["remedy"]
    return fault


def assert_complete(site, study_id: str) -> None:
    """The budget is met, the best is what the rows say, and Optuna tells the same story."""
    rows = site.trials(study_id)
    assert [row.ordinal for row in rows] == list(range(12))
    assert all(row.outcome in ("valid", "over_retain_budget", "diverged") for row in rows)
    assert {row.outcome for row in rows} > {"valid"}, "a mixed study has more than valid trials"
    with site.database.begin() as session:
        best = standing.best(session, studies.get(session, study_id))
    assert best.value == max(row.value for row in rows if row.outcome == "valid")

    seen = {trial._trial_id: trial for trial in optuna_trials(site, study_id)}
    assert seen.keys() == {row.optuna_id for row in rows}
    for row in rows:
        trial = seen[row.optuna_id]
        assert trial.params == row.hyperparameters
        assert trial.user_attrs["ordinal"] == row.ordinal
        assert trial.state == (TrialState.COMPLETE if row.outcome == "valid" else TrialState.PRUNED)
        assert trial.value == row.value
        assert trial.constraints == {"retain_budget": row.result["violation"]}
        assert row.outcome == "valid" or trial.user_attrs["end_reason"] == row.outcome

    site.until("the lease is given back", lambda: site.group(study_id).expires_at is None, 10)
    kinds = [event.kind for event in site.events(study_id)]
    assert [kind for kind in kinds if not kind.startswith("trial_")] == [
        "created",
        "claimed",
        "preparing",
        "running",
        "completed",
    ]
    assert kinds.count("trial_started") == kinds.count("trial_finished") == 12
