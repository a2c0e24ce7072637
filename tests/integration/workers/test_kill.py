"""Kill -9 anything, anywhere: the study finishes with the asked number of trials, and nobody counts twice.

With one worker a search is death-exact: whatever was killed, the trial table comes out as undisturbed. The undisturbed
search is computed here, from mirror and simulation alone.
"""

import os
import signal
import time

import psutil
import pytest
from sqlalchemy import func, select

from mudman.results import Decision
from mudman.simulation import simulate
from service.store.attempts import Ending
from service.store.cluster_tables import Dispatcher
from service.store.mirror import Mirror

COUNTS = ("valid", "over_retain_budget", "diverged")


def undisturbed(spec) -> list[tuple[dict, float | None]]:
    """Hyper-parameters and value of every trial of the search, as one process without faults finds them."""
    instant = spec.model_copy(update={"labels": {**spec.labels, "seconds": "0"}})
    mirror, found = Mirror(spec), []
    for _ in range(spec.budget.trials):
        suggestion = mirror.ask()
        result = simulate(instant, suggestion.hyperparameters, lambda progress: Decision.CONTINUE)
        mirror.tell(suggestion.ordinal, Ending.of(result))
        found.append((suggestion.hyperparameters, result.value))
    return found


def assert_undisturbed(site, study_id: str) -> None:
    """The search is as undisturbed, and what disturbed it is told."""
    assert_same_search(site, study_id)
    assert_causes_told(site, study_id)


def assert_same_search(site, study_id: str) -> None:
    """Exactly the asked number counts, each ordinal once, without gaps, and value for value as undisturbed."""
    spec = site.spec(study_id)
    counted = [row for row in site.trials(study_id) if row.outcome in COUNTS]
    assert [row.ordinal for row in counted] == list(range(spec.budget.trials))
    assert [(row.hyperparameters, row.value) for row in counted] == undisturbed(spec)


def assert_causes_told(site, study_id: str) -> None:
    """What ended an attempt that was lost stands in the trial, in the study's events and in the log, in one wording."""
    told = {(e.data["ordinal"], e.data["attempt"]): e.data for e in site.events(study_id) if e.kind == "trial_finished"}
    for row in site.trials(study_id):
        if row.outcome in ("lost", "out_of_memory", "error"):
            reason = told[row.ordinal, row.attempt]["reason"]
            assert reason.startswith(f"{row.outcome}: {row.result['fault']['type']}: {row.result['fault']['message']}")
            assert f"{study_id} trial {row.ordinal} attempt {row.attempt}: {reason}" in site.log()


def assert_lost_and_run_again(site, study_id: str) -> None:
    """At least one attempt was lost; its ordinal ran again with the same hyper-parameters; events tell of it."""
    rows = site.trials(study_id)
    lost = [row for row in rows if row.outcome == "lost"]
    assert lost, site.log()
    for row in lost:
        again = next(r for r in rows if (r.ordinal, r.attempt) == (row.ordinal, row.attempt + 1))
        assert again.hyperparameters == row.hyperparameters
        assert again.optuna_id != row.optuna_id
    told_of = [e.data for e in site.events(study_id) if e.kind == "trial_finished" and e.data["outcome"] == "lost"]
    assert [(d["ordinal"], d["attempt"]) for d in told_of] == [(row.ordinal, row.attempt) for row in lost]


def small(site, name: str) -> str:
    """One worker, six trials of more than a second; the last three learn from those before."""
    return site.submit(name=name, trials=6, seconds=1.2, outcome="mixed", startup_trials=3)


def kinds(site, study_id: str, *wanted: str) -> list[str]:
    return [event.kind for event in site.events(study_id) if event.kind in wanted]


def test_killed_worker_runner_and_dispatcher(site):
    one, other = small(site, "loses its worker"), small(site, "loses its runner")
    dispatcher = site.dispatch()

    site.until("a trial of one has ended", lambda: site.finished(one) >= 1)
    os.kill(site.until("a trial of one runs", lambda: site.worker_of(one)), signal.SIGKILL)
    site.until("two trials of the other have ended", lambda: site.finished(other) >= 2)
    site.until("a trial of the other runs", lambda: site.worker_of(other))
    os.kill(site.runner_of(other), signal.SIGKILL)
    site.until("the other is claimed again", lambda: site.group(other).epoch == 2)
    dispatcher.kill()
    dispatcher.wait()
    site.dispatch()

    for study_id in (one, other):
        site.until_state(study_id, "completed")
        assert_undisturbed(site, study_id)
        assert_lost_and_run_again(site, study_id)
    assert site.group(one).epoch == 1, "its runner outlived a worker and the dispatcher, and nobody took its lease"
    assert site.group(other).epoch == 2
    reasons = [event.data["reason"] for event in site.events(other) if event.kind == "lease_lost"]
    assert reasons == ["runner was killed by signal 9 (SIGKILL)"]


def test_expired_leases_are_taken_over_and_their_holders_refused(site):
    """Nobody reaps a runner whose dispatcher is dead: its lease expires, and within five seconds another dispatcher has
    it. One of the two comes back too late."""
    dies, sleeps = small(site, "dies"), small(site, "sleeps")
    dispatcher = site.dispatch()
    for study_id in (dies, sleeps):
        site.until("a trial has ended", lambda study_id=study_id: site.finished(study_id) >= 1)
    site.dispatch()
    site.until("another dispatcher looks for work", lambda: dispatchers(site) == 2)
    dispatcher.kill()
    dispatcher.wait()
    sleeper = psutil.Process(site.runner_of(sleeps))
    sleeper.suspend()
    os.kill(site.runner_of(dies), signal.SIGKILL)
    expiries = {study_id: site.group(study_id).expires_at for study_id in (dies, sleeps)}

    site.until("both are taken over", lambda: site.group(dies).epoch == site.group(sleeps).epoch == 2)
    site.until("its successor writes", lambda: any(row.epoch == 2 for row in site.trials(sleeps)))
    sleeper.resume()
    site.until("the sleeper has ended", lambda: gone(sleeper.pid), 20)
    for study_id, expiry in expiries.items():
        site.until_state(study_id, "completed")
        assert_undisturbed(site, study_id)
        assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed", "lease_lost", "claimed"]
        [_, again] = [event.at for event in site.events(study_id) if event.kind == "claimed"]
        assert 0 <= (again - expiry).total_seconds() <= 5
        assert {row.epoch for row in site.trials(study_id)} == {1, 2}


def test_postgres_away_and_an_orderly_end_lose_nothing(site, postgres):
    site.environment["MUDMAN_LEASE_EXPIRY"] = "2"
    study_id = small(site, "study")
    dispatcher = site.dispatch()
    site.until("a trial has ended", lambda: site.finished(study_id) >= 1)
    site.until("a trial runs", lambda: site.worker_of(study_id))
    runner = site.runner_of(study_id)
    postgres.stop()
    try:
        time.sleep(4)  # longer than the lease, and than a trial
    finally:
        postgres.start()
    site.until("two more trials have ended", lambda: site.finished(study_id) >= 3)
    assert site.runner_of(study_id) == runner
    rows = site.trials(study_id)
    assert {(row.attempt, row.epoch) for row in rows} == {(1, 1)}
    assert {row.outcome for row in rows} <= {*COUNTS, None}
    assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed"]

    site.until("a trial runs", lambda: site.worker_of(study_id))
    dispatcher.terminate()
    assert dispatcher.wait(20) == 0
    assert site.group(study_id).expires_at is None, "the lease is given back"
    assert site.state(study_id) == "running"
    assert site.trials(study_id)[-1].outcome == "cancelled", "ended on request, so not lost"
    site.dispatch()
    site.until_state(study_id, "completed")
    assert_undisturbed(site, study_id)
    assert kinds(site, study_id, "lease_lost") == []


@pytest.mark.long
def test_a_minute_without_postgres(site, postgres):
    """Three times as long as leases last by default: they are judged only after their holders could renew."""
    for name in ("MUDMAN_LEASE_RENEWAL", "MUDMAN_LEASE_EXPIRY", "MUDMAN_DISPATCHER_POLL"):
        del site.environment[name]
    study_id, other = small(site, "runs"), small(site, "runs, too")
    site.dispatch()
    site.dispatch()
    for each in (study_id, other):
        site.until("a trial has ended", lambda each=each: site.finished(each) >= 1)
    postgres.stop()
    try:
        time.sleep(60)
    finally:
        postgres.start()
    for each in (study_id, other):
        site.until_state(each, "completed")
        assert_undisturbed(site, each)
        assert {(row.attempt, row.epoch) for row in site.trials(each)} == {(1, 1)}, "nothing ran twice"
        assert kinds(site, each, "claimed", "lease_lost") == ["claimed"]


def dispatchers(site) -> int:
    with site.database.begin() as session:
        return session.scalar(select(func.count()).select_from(Dispatcher))


@pytest.mark.long
def test_a_dispatcher_that_starts_as_an_outage_ends_takes_nobodys_lease(site, postgres):
    """It has not seen the outage, after which every lease has expired."""
    for name in ("MUDMAN_LEASE_RENEWAL", "MUDMAN_LEASE_EXPIRY", "MUDMAN_DISPATCHER_POLL"):
        del site.environment[name]
    study_id = site.submit(name="study", trials=1, seconds=60.0)
    site.dispatch()
    site.until("a trial runs", lambda: site.worker_of(study_id))
    postgres.stop()
    try:
        time.sleep(24)
    finally:
        postgres.start()
    site.dispatch()
    site.until_state(study_id, "completed")
    assert kinds(site, study_id, "claimed", "lease_lost") == ["claimed"]
    assert {(row.attempt, row.epoch, row.outcome) for row in site.trials(study_id)} == {(1, 1, "valid")}


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
