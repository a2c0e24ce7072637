"""A runner's write that waited for a lock: it sees what was committed meanwhile, though its statement had begun."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import select, text, update
from test_leases import claim, expire, kinds, start, submit

from mudman.results import Outcome, TrialResult
from service.store import attempts, enqueued, events, leases, standing
from service.store.attempts import Report
from service.store.leases import LeaseLost, NoPlace
from service.store.tables import EnqueuedTrial, Group, Trial

VALID = TrialResult(outcome=Outcome.VALID, value=3.0, violation=-1.0)


@pytest.fixture
def held(new_database):
    """The database, a study whose trial 0 runs, and the lease on it."""
    store = new_database()
    study_id = submit(store)
    lease = claim(store)
    with store.begin() as session:
        start(session, lease, study_id, 0)
    return store, study_id, lease


def write(held, name: str):
    store, study_id, lease = held
    with store.begin() as session:
        if name == "start":
            return start(session, lease, study_id, 1)
        if name == "progress":
            return attempts.progress(session, lease, [Report(study_id, 0, 1, {"passes": 1}, {"pid": 1})])
        return attempts.record(session, lease, study_id, 0, 1, VALID)


@contextmanager
def meanwhile(held, work: Callable[[], object]) -> Iterator:
    """A transaction that is committed once ``work``, begun after its statements, waits for one of its locks."""
    store, _, _ = held
    result: list = []
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as session:
            yield session, result
            session.flush()
            done = pool.submit(work)
            deadline = time.monotonic() + 10
            while not _somebody_waits(store):
                assert time.monotonic() < deadline and not done.done(), "it never waited"
                time.sleep(0.02)
        result.append(done)


def _somebody_waits(store) -> bool:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with store.begin() as session:
        return session.scalar(text(waiting)) > 0


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("row", ["lease", "study"])
def test_numbers_stay_without_gaps_and_nothing_is_overwritten(held, name, row):
    store, study_id, lease = held
    with meanwhile(held, lambda: write(held, name)) as (session, result):
        if row == "lease":
            assert leases.renew(session, lease.group_id, lease.epoch, 30).alive
            session.execute(update(Group).values(failures=2))
        events.append(session, study_id, "said_by_another")
    result[0].result()
    written = "trial_started" if name == "start" else "trial_finished"
    assert kinds(store, study_id) == ["created", "claimed", "trial_started", "said_by_another", written]
    with store.begin() as session:
        assert session.scalars(select(Group.failures)).one() == (2 if (row, name) == ("lease", "start") else 0)
        assert len(attempts.history(session, study_id)) == (2 if name == "start" else 1)


@pytest.mark.parametrize("name", ["start", "progress", "end"])
def test_a_claim_that_was_faster_refuses_it(held, name):
    store, study_id, lease = held
    expire(store)
    with meanwhile(held, lambda: write(held, name)) as (session, result):
        assert leases.claim(session, "two", 30).epoch == lease.epoch + 1
    with pytest.raises(LeaseLost):
        result[0].result()
    with store.begin() as session:
        row = session.scalars(select(Trial)).one()
        assert (row.outcome, row.progress, row.worker) == (None, None, None)
        assert standing.counts(session, study_id) == {"running": 1}
        assert session.scalar(text("select count(*) from optuna.trials")) == 1
    assert kinds(store, study_id) == ["created", "claimed", "trial_started", "lease_lost", "claimed"]


def test_a_share_that_became_smaller_refuses_a_start(held):
    with meanwhile(held, lambda: write(held, "start")) as (session, result):
        session.execute(update(Group).values(max_live=1))
    with pytest.raises(NoPlace):
        result[0].result()


@pytest.mark.parametrize("name", ["start", "end"])
def test_what_was_written_already_when_the_answer_was_lost(held, name):
    """The connection broke at the commit, which took effect only after the runner had begun to repeat the write."""
    store, study_id, lease = held
    with meanwhile(held, lambda: write(held, name)) as (session, result):
        if name == "start":
            start(session, lease, study_id, 1)
        else:
            assert attempts.record(session, lease, study_id, 0, 1, VALID)
    assert not result[0].result()
    assert len(kinds(store, study_id)) == 4
    with store.begin() as session:
        expected = {"running": 2} if name == "start" else {"valid": 1}
        assert standing.counts(session, study_id) == expected
        assert session.scalar(text("select count(*) from optuna.trials")) == sum(expected.values())


def test_numbers_of_optunas_stay_unique_beside_a_notebook(held):
    """A trial of its own is added under the lock that ours waits for."""
    store, _, _ = held
    with meanwhile(held, lambda: write(held, "start")) as (session, result):
        session.execute(text("select 1 from optuna.studies for update"))
        session.execute(
            text(
                "insert into optuna.trials (study_id, number, state) select study_id, 1, 'RUNNING' from optuna.studies"
            )
        )
    result[0].result()
    with store.begin() as session:
        assert session.scalars(text("select number from optuna.trials order by trial_id")).all() == [0, 1, 2]


def test_writes_go_on_after_a_restart_of_the_server(postgres, held):
    """A connection that was used a moment ago is not asked whether it lives; that it was cut is seen all the same."""
    for name in ("start", "end"):
        postgres.stop()
        postgres.start()
        write(held, name)
    store, study_id, _ = held
    with store.begin() as session:
        assert standing.counts(session, study_id) == {"valid": 1, "running": 1}


def test_an_enqueued_trial_is_taken_once(held):
    store, study_id, lease = held
    with store.begin() as session:
        enqueued.add(session, study_id, {("hyperparameters",): {"unlearning_rate": 0.1}})
        first = enqueued.first(session, study_id)
        assert first.hyperparameters == {"unlearning_rate": 0.1}
        start(session, lease, study_id, 1, enqueued=first.sequence)
        assert enqueued.first(session, study_id) is None
        assert session.scalars(select(EnqueuedTrial.ordinal)).one() == 1
