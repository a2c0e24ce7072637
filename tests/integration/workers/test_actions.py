"""What people do to a study while processes work on it: real dispatcher, runner, Ray and Postgres."""

import os
import signal
import time

from test_kill import assert_undisturbed, dispatchers, kinds

from mudman.results import Fault, Outcome, TrialResult
from service.store import actions, attempts, enqueued, studies
from service.store.leases import Lease
from service.store.states import Action

SOON = 5
"""Seconds within which what is done to a study is effective."""
STATES = tuple(str(action) for action in Action)


def test_paused_resumed_extended_and_retried(site):
    """The search goes on value for value as undisturbed, whatever is done to it, and what is done is effective soon."""
    site.environment["MUDMAN_RUNNER_LINGER"] = "8"
    study_id = site.submit(name="is paused", trials=5, seconds=1.5, outcome="mixed", startup_trials=3)
    dispatcher = site.dispatch()
    site.until("a trial has ended", lambda: site.finished(study_id) >= 1)
    worker = site.until("a trial runs", lambda: site.worker_of(study_id))
    pause(site, study_id)
    assert site.trials(study_id)[-1].outcome == "cancelled"
    act(site, actions.resume, study_id)
    resumed = site.until("a trial runs", lambda: site.worker_of(study_id), SOON)
    assert resumed == worker, "its process has obeyed, and has stayed"
    pause(site, study_id)
    site.until("the lease is given back", lambda: site.group(study_id).expires_at is None, 15)
    before = site.trials(study_id)

    dispatcher.terminate()
    assert dispatcher.wait(20) == 0
    site.dispatch()
    site.until("another dispatcher looks for work", lambda: dispatchers(site) == 2)
    time.sleep(1)
    assert (site.state(study_id), site.group(study_id).epoch, len(site.trials(study_id))) == ("paused", 1, len(before))

    act(site, actions.resume, study_id)
    site.until_state(study_id, "completed")
    act(site, actions.extend, study_id, 7)
    site.until("a trial runs", lambda: site.worker_of(study_id), SOON)
    again = next(row for row in site.trials(study_id) if (row.ordinal, row.attempt) == (before[-1].ordinal, 2))
    assert again.hyperparameters == before[-1].hyperparameters
    prepared = preparation(site, study_id)
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    add_a_failed_trial(site, study_id)
    act(site, actions.retry, study_id)
    site.until("a trial runs", lambda: site.worker_of(study_id), SOON)
    site.until_state(study_id, "completed")
    rows = [row for row in site.trials(study_id) if row.ordinal == 7]
    assert [(row.attempt, row.outcome == "error") for row in rows] == [(1, True), (2, False)]
    assert rows[1].hyperparameters == rows[0].hyperparameters
    assert preparation(site, study_id) == prepared, "nothing was prepared or measured again"
    assert kinds(site, study_id, *STATES) == [
        *("preparing", "running", "paused", "resumed", "paused", "resumed", "completed"),
        *("extended", "preparing", "running", "completed"),
        *("retried", "preparing", "running", "completed"),
    ]
    assert site.group(study_id).epoch == 2, "one runner before the other dispatcher came, and one since"


def test_enqueued_and_cancelled_while_trials_run(site):
    study_id = site.submit(name="goes on", trials=500, seconds=1.0, max_concurrent=2)
    site.dispatch()
    site.until("a trial runs", lambda: site.worker_of(study_id))
    chosen = {"unlearning_rate": 0.011, "retaining_rate": 0.0011, "fork_every": 12}
    with site.database.begin() as session:
        enqueued.add(session, study_id, {("trials", "0"): chosen})
    site.until("it runs", lambda: any(t.hyperparameters == chosen and t.worker for t in site.trials(study_id)), SOON)
    os.kill(site.runner_of(study_id), signal.SIGKILL)
    site.change_state(study_id, Action.CANCEL)
    site.until("no attempt is open", lambda: all(row.outcome for row in site.trials(study_id)), 2 * SOON)


def pause(site, study_id: str) -> None:
    site.change_state(study_id, Action.PAUSE)
    site.until("no attempt is open", lambda: all(row.outcome for row in site.trials(study_id)), SOON)


def act(site, action, study_id: str, *arguments) -> None:
    """As the API does it."""
    with site.database.begin() as session:
        action(session, study_id, *arguments)


def preparation(site, study_id: str) -> dict:
    with site.database.begin() as session:
        return studies.get(session, study_id).preparation


def add_a_failed_trial(site, study_id: str) -> None:
    """As its runner writes it; simulated trials end in an error always or never."""
    group = site.group(study_id)
    lease = Lease(group.id, group.epoch)
    chosen = {"unlearning_rate": 0.01, "retaining_rate": 0.001, "fork_every": 12}
    fault = TrialResult(outcome=Outcome.ERROR, fault=Fault(type="ValueError", message="once only"))
    with site.database.begin() as session:
        attempts.start(session, lease, study_id, 7, 1, chosen, distributions=dict.fromkeys(chosen, "{}"))
        attempts.record(session, lease, study_id, 7, 1, fault)
