"""What a runner finds when it takes a study over, whatever line the one before died at. No Ray here."""

import functools
import threading
from contextlib import contextmanager

import pytest
import ray
from cases import Case, result_of
from sqlalchemy import select, update

from mudman.results import Outcome, TrialResult
from mudman.specs import parse
from service.store import actions, leases, nodes, studies
from service.store.database import DatabaseUnavailable
from service.store.leases import LeaseLost, NoPlace
from service.store.settings import Settings
from service.store.states import Action, State
from service.store.tables import EnqueuedTrial, Event, Group, Study
from workers import keeper as keeper_module
from workers import study as study_module
from workers.desk import Desk
from workers.exits import FAILED, NO_RAY, RayUnavailable
from workers.keeper import LeaseKeeper
from workers.outage import outlast
from workers.preparing import _await_room, prepare
from workers.runner import _failed, _run
from workers.study import StudyInHand


def test_died_while_a_trial_ran(case):
    one = case()
    first = one.next_begun()
    for number in (2, 3):
        again = one.next_begun()
        assert (again.ordinal, again.attempt, again.hyperparameters) == (0, number, first.hyperparameters)
    other = one.take_over().next()
    assert (other.ordinal, other.attempt) == (1, 1), "given up after three attempts, and another is asked"
    assert one.rows() == [(0, n, "lost") for n in (1, 2, 3)] + [(1, 1, None)]
    with one.database.begin() as session:
        told = [event.data for event in session.scalars(select(Event).where(Event.kind == "trial_finished"))]
    assert len(told) == 3
    assert all(data["reason"].startswith("lost: RunnerDied: ") for data in told)


def test_what_no_worker_had_begun_is_not_lost(case):
    """However many runners die before Ray has a place for it."""
    one = case()
    first = one.take_over().next()
    for _ in range(5):
        again = one.take_over().next()
        assert (again.ordinal, again.hyperparameters) == (0, first.hyperparameters)
    assert one.rows() == [*((0, n, "cancelled") for n in range(1, 6)), (0, 6, None)]


def test_a_cancelled_study_is_only_swept(case):
    one = case()
    one.take_over().next()
    one.change_state(Action.CANCEL)
    assert one.take_over().state is State.CANCELLED
    assert one.rows() == [(0, 1, "cancelled")]
    with one.database.begin() as session:
        leases.release(session, one.lease.group_id, one.lease.epoch)
        assert leases.claim(session, "two", 60) is None


def test_a_study_that_failed_by_its_waste_goes_on_when_it_is_queued_again(case):
    one = case(trials=2, outcome="error")
    study = one.take_over()
    while not study.book.hopeless:
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    one.change_state(Action.FAIL)
    with one.database.begin() as session:
        studies.create(session, study.spec)
    assert one.state() == "queued"
    successor = one.take_over()
    assert not successor.book.hopeless
    assert successor.next().ordinal == 21


def test_the_one_before_is_refused_everywhere(case):
    one = case(max_concurrent=2)
    old = one.take_over()
    attempt = old.next()
    one.take_over()
    for write in (old.next, lambda: old.settle(attempt, result_of(old, attempt))):
        with pytest.raises(LeaseLost):
            write()
    assert one.rows() == [(0, 1, "cancelled")]


def played(one, *, dies: bool) -> list[tuple]:
    """The whole search, its runner dying while each trial runs and after it; what counted in the end."""
    study = one.take_over()
    while attempt := study.next():
        if dies:
            study = one.take_over()
            attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
        if dies:
            study = one.take_over()
    counting = [row for row in one.trials() if Outcome(row.outcome).counts]
    return [(row.ordinal, row.hyperparameters, row.outcome, row.value) for row in counting]


def test_enqueued_trials_are_taken_in_order_whatever_died(case):
    chosen = [{"fork_every": 12}, {"unlearning_rate": 0.01, "retaining_rate": 0.001, "fork_every": 7}]
    quiet, deadly = (case(trials=6, startup_trials=2, outcome="mixed") for _ in range(2))
    for one in (quiet, deadly):
        one.enqueue(*chosen)
    undisturbed = played(quiet, dies=False)
    assert played(deadly, dies=True) == undisturbed
    assert [row[0] for row in undisturbed] == list(range(6))
    for values, (_, hyperparameters, *_) in zip(chosen, undisturbed, strict=False):
        assert hyperparameters | values == hyperparameters
        assert hyperparameters.keys() == {"unlearning_rate", "retaining_rate", "fork_every"}
    with deadly.database.begin() as session:
        assert session.scalars(select(EnqueuedTrial.ordinal).order_by(EnqueuedTrial.sequence)).all() == [0, 1]


@pytest.mark.parametrize(
    "sampler",
    [
        {"type": "random"},
        {"type": "cmaes", "population": 4},
        {"type": "grid", "points": 3},
        pytest.param({"type": "gp", "startup_trials": 6}, marks=pytest.mark.long),
    ],
    ids=lambda sampler: sampler["type"],
)
def test_whatever_samples_dies_and_goes_on_as_undisturbed(new_database, make_spec, sampler):
    document = make_spec(trials=16, outcome="mixed").model_dump(mode="json")
    found = []
    for dies in (False, True):
        one = Case(new_database(), parse(document | {"sampler": {"seed": 3, **sampler}}))
        one.enqueue({"fork_every": 12})
        found.append(played(one, dies=dies))
        one.database.close()
    assert found[0] == found[1]
    assert len(found[0]) == 16
    assert found[0][0][1]["fork_every"] == 12


def test_what_is_enqueued_while_trials_run_is_the_next_new_one(case):
    one = case(trials=3, max_concurrent=2)
    study = one.take_over()
    first = study.next()
    one.enqueue({"fork_every": 12})
    study.settle(first, TrialResult(outcome=Outcome.LOST))
    assert study.next().attempt == 2, "what runs again comes first"
    assert study.next().hyperparameters["fork_every"] == 12


def test_what_is_enqueued_while_a_sampled_trial_waits_for_a_place_comes_first(case):
    """It was promised the last place of the budget, which the sampled one did not hold yet."""
    one = case(trials=2)
    study = one.take_over()
    first = study.next()
    study.settle(first, result_of(study, first))
    max_live(one, 0)
    with pytest.raises(NoPlace):
        study.next()
    one.enqueue({"fork_every": 12})
    max_live(one, 1)
    assert_taken(one, study)


def test_what_is_enqueued_while_a_sampler_thinks_comes_first(case, monkeypatch):
    monkeypatch.setattr(study_module, "LISTEN", 0.001)  # it may think for less than a tenth of a second
    one = case(trials=22, sampler="gp", startup_trials=20)
    study = one.take_over()
    for _ in range(21):
        attempt = study.next()
        study.settle(attempt, result_of(study, attempt))
    enqueued_once = functools.cache(lambda: one.enqueue({"fork_every": 12}))
    assert_taken(one, study, enqueued_once)


def test_what_gave_way_is_as_after_a_death(case):
    """The ordinal takes what was enqueued, and from the sampler what that leaves out."""
    quiet, deadly = (case(trials=8, startup_trials=2, outcome="mixed") for _ in range(2))
    for one in (quiet, deadly):
        study = one.take_over()
        for _ in range(4):
            attempt = study.next()
            study.settle(attempt, result_of(study, attempt))
        max_live(one, 0)
        with pytest.raises(NoPlace):
            study.next()
        one.enqueue({"fork_every": 12})
        max_live(one, None)
        if one is deadly:
            study = one.take_over()
        while attempt := study.next():
            study.settle(attempt, result_of(study, attempt))
    numbers = [[(row.ordinal, row.hyperparameters, row.value) for row in one.trials()] for one in (quiet, deadly)]
    assert numbers[0] == numbers[1]


def max_live(one, places: int | None) -> None:
    with one.database.begin() as session:
        session.execute(update(Group).values(max_live=places))


def assert_taken(one, study, meanwhile=lambda: None) -> None:
    """By the last trial."""
    last = study.next(meanwhile)
    assert (last.hyperparameters["fork_every"], last.enqueued) == (12, 1)
    study.settle(last, result_of(study, last))
    assert study.book.complete
    with one.database.begin() as session:
        assert session.scalars(select(EnqueuedTrial.ordinal)).all() == [last.ordinal]


def test_a_retried_trial_runs_again_beyond_the_budget(case):
    one = case(trials=2)
    study = one.take_over()
    outcomes = [Outcome.ERROR, Outcome.VALID, Outcome.VALID]
    for ordinal, outcome in enumerate(outcomes):
        attempt = study.next()
        study.settle(attempt, TrialResult(outcome=outcome, value=3.0 if ordinal else None))
    assert study.book.complete
    one.change_state(Action.COMPLETE)
    with one.database.begin() as session:
        actions.retry(session, one.id)
    again = one.take_over()
    assert not again.book.complete
    attempt = again.next()
    assert (attempt.ordinal, attempt.attempt) == (0, 2)
    again.settle(attempt, TrialResult(outcome=Outcome.VALID, value=3.5))
    assert (again.book.counted, again.book.complete, again.next()) == (3, True, None)


def test_what_a_runner_left_behind_of_a_paused_study_is_settled_at_once(case):
    one = case()
    one.take_over().next()
    one.change_state(Action.PAUSE)
    assert one.take_over().state is State.PAUSED, "claimed for it"
    assert one.rows() == [(0, 1, "cancelled")]
    with one.database.begin() as session:
        leases.release(session, one.lease.group_id, one.lease.epoch)
        assert leases.claim(session, "two", 60) is None, "nothing is left to do while it is paused"


@pytest.mark.parametrize(
    ("broken", "error", "status", "told"),
    [
        (True, RuntimeError("followed from it"), FAILED, "TypeError: "),
        (False, OSError("nothing left"), FAILED, "OSError: nothing left"),
        (False, RayUnavailable("no Ray cluster answers"), NO_RAY, "RayUnavailable: no Ray cluster answers"),
    ],
)
def test_a_runner_that_fails_says_why_and_a_broken_keeper_counts(case, monkeypatch, broken, error, status, told):
    monkeypatch.setattr(keeper_module, "LAST_WORDS", 1e6)
    one = case()
    one.take_over_lease()
    keeper = LeaseKeeper(one.database, one.lease, Desk(), 0.05, "no number of seconds" if broken else 60)
    keeper.start()
    if broken:
        keeper.join(10)
        assert keeper.lost.is_set()
    assert _failed(one.database, one.lease, keeper, error) == status
    keeper._given_back.set()
    keeper.join(10)
    with one.database.begin() as session:
        [event] = session.scalars(select(Event).where(Event.kind == "runner_failed"))
        assert event.data["reason"].startswith(told)


def test_a_runner_asked_to_end_while_it_waits_for_ray_gives_its_lease_back(case, monkeypatch):
    for name in ("RAY_gcs_rpc_server_reconnect_timeout_s", "RAY_gcs_server_port_wait_time_s"):
        monkeypatch.setenv(name, "1")  # set by whoever attaches; not for the tests after this one
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    one, desk = case(), Desk()
    one.take_over_lease()
    keeper = LeaseKeeper(one.database, one.lease, desk, 5, 20)
    settings = Settings(database_url=one.database.url, ray_address="127.0.0.1:1")
    threading.Timer(0.5, desk.halt).start()
    _run(settings, one.database, one.lease, desk, keeper)
    with one.database.begin() as session:
        group = session.get_one(Group, one.lease.group_id)
        assert (group.expires_at, group.not_before) == (None, None)


class Flickering:
    """A database that is away at some of its first transactions."""

    def __init__(self, database, *away: int):
        self._database, self._away, self._transactions = database, away, 0

    @contextmanager
    def begin(self):
        self._transactions += 1
        if self._transactions in self._away:
            raise DatabaseUnavailable("cut off")
        with self._database.begin() as session:
            yield session


def test_a_database_that_is_away_while_a_study_is_prepared_is_waited_for(case, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}, "NodeID": "n"}])
    one = case()
    with one.database.begin() as session:
        session.execute(update(Study).values(state="queued", preparation={"model_revision": "main", "corpora": {}}))
    one.take_over_lease()
    away, desk = Flickering(one.database, 1, 2, 6, 7, 10, 12), Desk()
    study = outlast(desk, lambda: StudyInHand(away, one.lease, one.id))
    assert prepare(away, one.lease, desk, [study], Settings(database_url=one.database.url)) == [study]
    assert one.state() == "running"
    assert away._transactions > 6
    desk.halt()
    with pytest.raises(DatabaseUnavailable):
        outlast(desk, lambda: StudyInHand(Flickering(one.database, 1), one.lease, one.id))


def test_a_node_that_was_there_lately_is_waited_for_and_any_other_only_so_long(case, monkeypatch):
    """After a restart of the cluster its GPU nodes may come minutes after the others."""
    small, large = ({"Alive": True, "Resources": {"CPU": cpus}} for cpus in (2.0, 8.0))
    alive = [small]
    monkeypatch.setattr(ray, "nodes", lambda: list(alive))
    one = case(cpus=8)
    one.take_over_lease()
    study = one.in_hand(one.id)
    with one.database.begin() as session:
        session.execute(update(Study).values(state="preparing"))
    assert "the largest node has 2" in str(_await_room(one.database, Desk(), [study], 0.1))
    with one.database.begin() as session:
        nodes.observe(session, [nodes.Seen("n", "10.0.0.1", "host", 8, 0, 2**30, {})])
        nodes.observe(session, [])
    back = threading.Timer(1.0, alive.append, [large])
    back.start()
    assert _await_room(one.database, Desk(), [study], 0.1) is None
    back.join()
    assert alive == [small, large], "not before"
