"""The lease table: one winner, expiry by the database's clock, and no write under an old epoch."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.distributions import FloatDistribution, distribution_to_json
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from mudman.results import Outcome, TrialResult
from mudman.specs import parse
from service.store import attempts, leases, optuna_rows, standing, studies
from service.store.attempts import Report
from service.store.database import FROZEN, DatabaseUnavailable
from service.store.leases import LeaseLost
from service.store.states import Action, State
from service.store.tables import Event, Group, OutcomeCount, Trial
from service.views import trial_summary


def spec(name: str, priority: int = 0):
    return parse(
        {
            "name": name,
            "priority": priority,
            "model": {"id": "simulated"},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {
                "type": "mudman",
                "target_modules": ["gate_proj"],
                "unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True},
            },
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 50, "trials": 3},
        }
    )


@pytest.fixture
def store(new_database):
    return new_database()


def submit(store, name: str = "study", priority: int = 0) -> str:
    with store.begin() as session:
        return studies.create(session, spec(name, priority)).study.id


def start(session, lease, study_id: str, ordinal: int, **more) -> bool:
    optuna_rows.create(session, study_id, "maximize")
    distributions = {"unlearning_rate": distribution_to_json(FloatDistribution(1e-7, 0.3, log=True))}
    chosen = {"unlearning_rate": 0.1}
    return attempts.start(session, lease, study_id, ordinal, 1, chosen, distributions=distributions, **more)


def claim(store, owner: str = "one", expiry: float = 30):
    with store.begin() as session:
        return leases.claim(session, owner, expiry)


def expire(store) -> None:
    with store.begin() as session:
        session.execute(update(Group).values(expires_at=func.now() - text("interval '1 second'")))


def kinds(store, study_id: str) -> list[str]:
    with store.begin() as session:
        return list(session.scalars(select(Event.kind).where(Event.study_id == study_id).order_by(Event.sequence)))


def finish(store, study_id: str, state: State) -> None:
    with store.begin() as session:
        studies.change_state(session, study_id, Action(str(state)))


def test_of_many_claimers_one_wins_each_group(new_database):
    store = new_database(pool_size=16)
    submitted = {submit(store, f"study {number}") for number in range(5)}
    together = threading.Barrier(16)

    def race(number: int):
        together.wait()
        return claim(store, f"owner {number}")

    with ThreadPoolExecutor(16) as pool:
        won = [c for c in pool.map(race, range(16)) if c]
    # SKIP LOCKED may leave a loser empty-handed that raced for the same first row: it looks again.
    while another := claim(store, "late"):
        won.append(another)
    assert sorted(study_id for c in won for study_id in c.study_ids) == sorted(submitted)
    assert {c.epoch for c in won} == {1}


def test_a_claim_says_so_and_excludes_others(store):
    study_id = submit(store)
    mine = claim(store)
    assert (mine.epoch, mine.owner, mine.study_ids, mine.failures) == (1, "one", [study_id], 0)
    assert claim(store, "two") is None
    assert kinds(store, study_id) == ["created", "claimed"]


def test_the_most_urgent_group_goes_first(store):
    submit(store, "ordinary")
    urgent = submit(store, "urgent", priority=5)
    assert claim(store).study_ids == [urgent]


def test_an_expired_lease_is_taken_over_and_the_old_holder_refused(store):
    study_id = submit(store)
    old = claim(store)
    finish(store, study_id, State.PREPARING)
    expire(store)
    new = claim(store, "two")
    assert (new.epoch, new.failures) == (2, 1)
    assert kinds(store, study_id)[-2:] == ["lease_lost", "claimed"]
    with store.begin() as session:
        assert not leases.renew(session, old.group_id, old.epoch, 30).alive
        assert leases.renew(session, new.group_id, new.epoch, 30).alive
        assert not leases.release(session, old.group_id, old.epoch)
    with pytest.raises(LeaseLost), store.begin() as session:
        leases.guard(session, old)


def test_an_expired_lease_that_nobody_took_goes_on(store):
    submit(store)
    mine = claim(store)
    expire(store)
    with store.begin() as session:
        assert leases.renew(session, mine.group_id, mine.epoch, 30).alive
    assert claim(store, "two") is None


def test_a_released_group_waits_for_its_back_off(store):
    submit(store)
    mine = claim(store)
    with store.begin() as session:
        assert leases.release(session, mine.group_id, mine.epoch, retry_after=60, failed=True)
        assert not leases.renew(session, mine.group_id, mine.epoch, 30).alive, "a lease given back is not held"
    assert claim(store) is None
    with store.begin() as session:
        session.execute(update(Group).values(not_before=func.now()))
    assert claim(store).failures == 1


def test_a_finished_study_is_claimed_only_for_what_was_left_behind(store):
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        start(session, mine, study_id, 0)
    finish(store, study_id, State.CANCELLED)
    expire(store)
    again = claim(store)
    assert again is not None, "an attempt without an end is work"
    with store.begin() as session:
        attempts.record(session, again, study_id, 0, 1, TrialResult(outcome=Outcome.CANCELLED))
        leases.release(session, again.group_id, again.epoch)
    assert claim(store) is None


def test_nothing_is_written_under_an_old_epoch(store):
    """Neither in our tables nor in Optuna's."""
    study_id = submit(store)
    old = claim(store)
    with store.begin() as session:
        start(session, old, study_id, 0)
    expire(store)
    new = claim(store, "two")
    valid = TrialResult(outcome=Outcome.VALID, value=3.0)
    for write in (
        lambda session: start(session, old, study_id, 1),
        lambda session: attempts.progress(session, old, [Report(study_id, 0, 1, {"phase": "unlearn"}, None)]),
        lambda session: attempts.record(session, old, study_id, 0, 1, valid),
    ):
        with pytest.raises(LeaseLost), store.begin() as session:
            write(session)
    with store.begin() as session:
        row = session.scalars(select(Trial)).one()
        assert (row.outcome, row.progress) == (None, None)
        assert optuna_rows.running(session, study_id) == [row.optuna_id]
        assert session.scalar(text("select count(*) from optuna.trials")) == 1
        assert attempts.record(session, new, study_id, 0, 1, valid)


def test_a_write_and_a_claim_wait_for_each_other(store):
    """No write slips between the look at the epoch and its commit: the claim must wait until the write is in."""
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as writer, store.begin() as session:
        start(writer, mine, study_id, 0)
        session.execute(text("set local lock_timeout = '200ms'"))
        raised = text("update mudman.study_group set epoch = epoch + 1")
        with pytest.raises(DBAPIError) as waited, session.begin_nested():
            session.execute(raised)
        assert waited.value.orig.sqlstate == "55P03"  # lock_not_available
        writer.commit()
        session.execute(raised)


def test_the_first_end_of_an_attempt_stands(store):
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        start(session, mine, study_id, 0)
        start(session, mine, study_id, 0)  # repeated after a lost connection
        assert attempts.record(session, mine, study_id, 0, 1, TrialResult(outcome=Outcome.LOST))
        assert not attempts.record(session, mine, study_id, 0, 1, TrialResult(outcome=Outcome.VALID, value=1.0))
        assert session.scalars(select(Trial.outcome)).all() == ["lost"]
    assert kinds(store, study_id) == ["created", "claimed", "trial_started", "trial_finished"]


def hours_ago(session, **moments: float) -> None:
    """Of each of these, in hours: when the attempts that run began, and when they said their last word."""
    began, heard = (func.now() - text(f"interval '{moments[name]} hours'") for name in ("began", "heard"))
    worker = Trial.worker.concat(func.jsonb_build_object("heard_at", heard))
    session.execute(update(Trial).values(started_at=began, worker=worker))


@pytest.mark.parametrize(
    ("result", "hours"),
    [
        (TrialResult(outcome=Outcome.LOST), 0.5),
        (TrialResult(outcome=Outcome.CANCELLED), 0.5),
        (TrialResult(outcome=Outcome.VALID, value=1.0, seconds=2520), 0.7),
    ],
)
def test_an_outage_is_no_use(store, result, hours):
    """Began 10 hours and a half ago, and was heard of for half an hour; its end is stored now."""
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        start(session, mine, study_id, 0)
        attempts.progress(session, mine, [Report(study_id, 0, 1, None, {"pid": 1})])
    with store.begin() as session:
        hours_ago(session, began=10.5, heard=10)
        attempts.record(session, mine, study_id, 0, 1, result)
    with store.begin() as session:
        assert session.scalars(select(OutcomeCount.seconds)).one() == pytest.approx(hours * 3600)
        assert standing.sums(session, [study_id])[study_id][result.outcome].seconds == pytest.approx(hours * 3600)
        trial = session.scalars(select(Trial)).one()
        assert trial_summary(trial).seconds == pytest.approx(hours * 3600)
        assert trial.worker == {"pid": 1}


def test_what_no_worker_began_has_used_nothing(store):
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        start(session, mine, study_id, 0)
        session.execute(text("update mudman.trial set started_at = now() - interval '10 hours'"))
        attempts.record(session, mine, study_id, 0, 1, TrialResult(outcome=Outcome.CANCELLED))
    with store.begin() as session:
        assert session.scalars(select(OutcomeCount.seconds)).one() == 0
        assert trial_summary(session.scalars(select(Trial)).one()).seconds == 0


def test_a_verdict_ends_the_count_of_failures_and_a_loss_does_not(store):
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        session.execute(update(Group).values(failures=3))
        for ordinal, outcome, failures in ((0, Outcome.LOST, 3), (1, Outcome.ERROR, 0)):
            start(session, mine, study_id, ordinal)
            attempts.record(session, mine, study_id, ordinal, 1, TrialResult(outcome=outcome))
            assert session.scalars(select(Group.failures)).one() == failures


def test_logs_that_postgres_cannot_hold_are_cleaned(store):
    study_id = submit(store)
    mine = claim(store)
    with store.begin() as session:
        start(session, mine, study_id, 0)
        result = TrialResult(outcome=Outcome.ERROR, log="a\x00b\udcffc \\u0000 ünï")
        attempts.record(session, mine, study_id, 0, 1, result)
        assert session.scalars(select(Trial.log)).one() == "ab?c \\u0000 ünï"


def test_a_dispatcher_is_seen(store):
    with store.begin() as session:
        assert not leases.any_seen(session, 60)
        leases.seen(session, "one", "host", 1)
    with store.begin() as session:
        leases.seen(session, "one", "host", 2)
        assert leases.any_seen(session, 60)
        assert not leases.any_seen(session, 0)


def test_a_holder_that_froze_inside_a_transaction_does_not_keep_its_lease(store):
    """Stopped, or cut off, between two statements: its locks end with its session, which the server ends."""
    submit(store)
    old = claim(store)
    expire(store)
    with pytest.raises(DatabaseUnavailable), store.begin() as session:
        session.execute(text("set local idle_in_transaction_session_timeout = '300ms'"))
        leases.guard(session, old)
        assert claim(store, "two") is None, "the row is locked"
        time.sleep(0.6)
        assert claim(store, "two").epoch == 2
        leases.guard(session, old)


def test_every_connection_ends_when_it_freezes(store):
    with store.begin() as session:
        ours = session.scalars(text("show idle_in_transaction_session_timeout")).one()
    assert ours == FROZEN
