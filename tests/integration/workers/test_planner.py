"""A planning turn over real rows: shares and reasons that are written, use that is charged, and what obeys them."""

import datetime

import pytest
from sqlalchemy import func, select, text, update

from mudman.results import Outcome, TrialResult
from mudman.specs import parse
from service.store import actions, attempts, cluster, demand, leases, nodes, optuna_rows, studies, usage
from service.store.cluster_tables import Node, OwnerUsage
from service.store.leases import Lease, NoPlace
from service.store.nodes import Seen
from service.store.settings import Settings
from service.store.states import Action
from service.store.tables import Group, Study, Trial
from service.store.usage import HALF_LIFE, Standing
from workers import planner, preparing
from workers.reservations import PATIENCE, Reservations

WORKER = {"node_id": "n", "host": "h", "device": "cpu", "pid": 1}


@pytest.fixture
def store(new_database):
    return new_database()


@pytest.fixture
def submit(store, make_spec):
    def submit(owner: str, priority: int = 0, running: bool = True, **changes) -> Lease:
        """A group that a runner holds, its study running; or one in the queue."""
        document = make_spec(**{"name": f"of {owner} {priority}"} | changes).model_dump(mode="json", exclude_unset=True)
        with store.begin() as session:
            study = studies.create(session, parse(document | {"owner": owner, "priority": priority})).study
            if not running:
                return Lease(study.group_id, 0)
            claim = leases.claim(session, "one", 60)
            studies.change_state(session, study.id, Action.PREPARE)
            studies.change_state(session, study.id, Action.RUN)
            return claim

    return submit


def see(store, cpus: float, gpus: float = 0) -> None:
    with store.begin() as session:
        nodes.observe(session, [Seen("n", "10.0.0.1", "host", cpus, gpus, 2**30, {})])


def plan(store, reservations: Reservations | None = None, **settings) -> dict[str, tuple[int | None, str | None]]:
    """Share and reason of each owner's group."""
    with store.begin() as session:
        assert planner.plan(session, Settings(database_url=store.url, **settings), 16, reservations)
        rows = session.execute(select(Study.owner, Group.max_live, Group.waiting).join(Group))
        return {owner: (max_live, waiting) for owner, max_live, waiting in rows}


def start(store, lease: Lease, ordinal: int, attempt: int = 1, device: str = "cpu") -> None:
    worker = WORKER | {"device": device}
    with store.begin() as session:
        [study_id] = session.scalars(select(Study.id).where(Study.group_id == lease.group_id))
        optuna_rows.create(session, study_id, "maximize")
        attempts.start(session, lease, study_id, ordinal, attempt, {}, distributions={})
        attempts.progress(session, lease, [attempts.Report(study_id, ordinal, attempt, None, worker)])


VALID = TrialResult(outcome=Outcome.VALID, value=1.0)


def finish(store, lease: Lease, ordinal: int, result: TrialResult = VALID, attempt: int = 1) -> None:
    with store.begin() as session:
        [study_id] = session.scalars(select(Study.id).where(Study.group_id == lease.group_id))
        attempts.record(session, lease, study_id, ordinal, attempt, result)


def test_before_a_node_is_seen_nothing_is_decided_and_when_all_are_gone_nothing_starts(store, submit):
    submit("bob", priority=1)
    submit("ann", running=False)
    unknown = (None, "no node of the Ray cluster has been seen yet")
    assert plan(store) == {"ann": unknown, "bob": unknown}
    see(store, 2)
    assert plan(store) == {"ann": (1, None), "bob": (1, None)}
    with store.begin() as session:
        session.execute(update(Node).values(seen_at=func.now() - datetime.timedelta(seconds=nodes.SILENCE + 1)))
    gone = "no node of the Ray cluster answers"
    assert plan(store) == {"ann": (0, gone), "bob": (1, gone)}
    with store.begin() as session:
        assert leases.claim(session, "one", 60) is None


def test_demand_is_what_the_budget_still_needs(store, submit):
    see(store, 8)
    ann = submit("ann", trials=4, max_concurrent=8)
    assert plan(store)["ann"] == (4, None)
    for ordinal in range(3):
        start(store, ann, ordinal)
        finish(store, ann, ordinal)
    assert plan(store)["ann"] == (1, None)


def test_a_study_that_is_not_ready_yet_keeps_one_place_only(store, submit):
    see(store, 8)
    submit("ann", trials=50, max_concurrent=50)
    submit("bob", trials=50, max_concurrent=50, running=False)
    shares = plan(store)
    assert (shares["ann"][0], shares["bob"]) == (7, (1, None))


def test_no_trial_starts_beyond_the_share(store, submit):
    see(store, 2)
    ann = submit("ann", trials=50, max_concurrent=50)
    assert plan(store)["ann"][0] == 2
    start(store, ann, 0)
    start(store, ann, 1)
    start(store, ann, 1)  # said again, because the answer was lost
    with pytest.raises(NoPlace, match="may run 2 trials"):
        start(store, ann, 2)
    finish(store, ann, 0)
    start(store, ann, 2)


def test_who_waits_is_not_claimed_but_what_a_dead_runner_left_is_settled_at_once(store, submit):
    see(store, 1)
    ann = submit("ann", priority=1)
    bob = submit("bob", running=False)
    assert plan(store) == {"ann": (1, None), "bob": (0, "the cluster is full: the next places go to ann")}
    with store.begin() as session:
        assert leases.claim(session, "two", 60) is None
        assert not leases.claimable(session, 60)
        assert leases.without_place(session, [ann.group_id, bob.group_id]) == {bob.group_id}
        held = update(Group).where(Group.id == bob.group_id)
        session.execute(held.values(epoch=1, expires_at=func.now() - text("interval '1 second'")))
    with store.begin() as session:
        assert leases.claim(session, "two", 60).group_id == bob.group_id


def test_studies_of_an_owner_keep_a_place_for_a_turn(store, submit):
    see(store, 1)
    first, second = submit("ann", priority=0, trials=9), submit("ann", priority=0, name="other", trials=9)

    def chosen() -> Lease:
        plan(store)
        with store.begin() as session:
            return {first.group_id: first, second.group_id: second}[
                session.scalar(select(Group.id).where(Group.max_live == 1))
            ]

    def ran(seconds: float) -> None:
        with store.begin() as session:
            session.execute(update(Study).values(queued_at=Study.queued_at - datetime.timedelta(seconds=seconds)))
            session.execute(update(Trial).values(started_at=Trial.started_at - datetime.timedelta(seconds=seconds)))

    assert chosen() == first
    start(store, first, 0)
    assert chosen() == first
    ran(demand.TURN + 1)
    assert chosen() == second, "once the trial of the other one has ended"
    finish(store, first, 0)
    start(store, second, 0)
    assert chosen() == second
    ran(demand.TURN + 1)
    assert chosen() == first


def test_quotas_and_weights_are_those_of_the_settings(store, submit):
    see(store, 8)
    for owner in ("ann", "bob", "cyd"):
        submit(owner, trials=50, max_concurrent=50)
    shares = plan(store, owner_weights={"ann": 2.0}, owner_quotas={"*": {"trials": 3}, "ann": {"cpus": 5}})
    assert [shares[owner][0] for owner in ("ann", "bob", "cyd")] == [4, 2, 2]
    shares = plan(store, owner_weights={"ann": 9.0}, owner_quotas={"*": {"trials": 1}, "ann": {"cpus": 5}})
    assert [shares[owner][0] for owner in ("ann", "bob", "cyd")] == [5, 1, 1]
    assert shares["cyd"][1] == "1 of 50 trials may run: the quota of cyd (1 trial at once) is used up"
    with store.begin() as session:
        row = session.get_one(OwnerUsage, "ann")
        assert (row.weight, row.quota) == (9.0, {"cpus": 5.0, "gpus": None, "trials": None})


def test_a_node_in_quarantine_holds_nothing(store, submit):
    see(store, 2)
    submit("ann")
    with store.begin() as session:
        assert nodes.quarantine(session, "n", 60, "everything fails")
        assert not nodes.quarantine(session, "unknown", 60, "everything fails")
        assert nodes.quarantined(session) == ["n"]
    assert plan(store)["ann"] == (0, "every node that is large enough for a trial with 1 CPU is in quarantine")
    see(store, 2)
    with store.begin() as session:
        assert nodes.quarantined(session) == ["n"], "seen again, and still in quarantine"
        nodes.quarantine(session, "n", 0, "")
    assert plan(store)["ann"] == (1, None)


def test_whose_nodes_are_away_waits_and_whose_never_were_is_left_to_a_runner(store, submit):
    see(store, 4)
    submit("ann", cpus=4)
    submit("bob", cpus=4, running=False)
    submit("cyd", cpus=5, running=False)
    with store.begin() as session:
        nodes.observe(session, [Seen("m", "10.0.0.2", "other", 2, 0, 2**30, {})])
    away = (0, "every node that is large enough for a trial with 4 CPUs is away")
    assert plan(store) == {
        "ann": away,
        "bob": away,
        "cyd": (None, "no node is large enough for a trial with 5 CPUs"),
    }


def test_a_group_in_back_off_says_so_and_is_forgotten_when_it_has_ended(store, submit):
    see(store, 2)
    ann = submit("ann")
    with store.begin() as session:
        leases.release(session, ann.group_id, ann.epoch, retry_after=30, failed=True)
    assert plan(store)["ann"] == (0, "its runner failed: tried again in 30 s")
    with store.begin() as session:
        [study_id] = session.scalars(select(Study.id))
        studies.change_state(session, study_id, Action.CANCEL)
    assert plan(store)["ann"] == (None, None)


def test_a_runner_that_found_no_ray_is_no_failed_one(store, submit):
    see(store, 2)
    ann = submit("ann")
    with store.begin() as session:
        leases.release(session, ann.group_id, ann.epoch, retry_after=30)
    assert plan(store)["ann"] == (0, "its runner had no Ray cluster, or lost its lease: tried again in 30 s")
    with store.begin() as session:
        session.execute(update(Node).values(seen_at=func.now() - datetime.timedelta(seconds=nodes.SILENCE + 1)))
    assert plan(store)["ann"] == (0, "no node of the Ray cluster answers")


def test_a_completed_study_runs_as_many_retries_at_once_as_it_may(store, submit):
    see(store, 8)
    ann = submit("ann", trials=2, max_concurrent=8)
    for ordinal in range(2):
        start(store, ann, ordinal)
        finish(store, ann, ordinal)
    for ordinal in range(2, 8):
        start(store, ann, ordinal)
        finish(store, ann, ordinal, TrialResult(outcome=Outcome.OUT_OF_MEMORY))
    with store.begin() as session:
        [study_id] = session.scalars(select(Study.id))
        studies.change_state(session, study_id, Action.COMPLETE)
        actions.retry(session, study_id)
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, study_id, action)
    assert plan(store)["ann"] == (6, None)
    start(store, ann, 2, attempt=2)
    assert plan(store)["ann"] == (6, None), "one runs, and five wait"
    finish(store, ann, 2, attempt=2)
    assert plan(store)["ann"] == (5, None)


def test_whoever_is_next_is_told_whose_trial_holds_the_place(store, submit):
    see(store, 1)
    ann = submit("ann", trials=9)
    plan(store)
    start(store, ann, 0)
    for _ in range(5):
        plan(store)
        pass_time(store, 9)
    submit("bob", trials=9, priority=0)
    assert plan(store) == {
        "ann": (0, "the cluster is full: ann 1 CPU in 1 trial; the next places go to bob"),
        "bob": (1, "has 1 place, free as soon as trials of ann end"),
    }
    with store.begin() as session:
        listed = [(study.owner, group.waiting is not None) for study, group in cluster.waiting(session)[0]]
    assert listed == [("ann", True), ("bob", True)]


def test_a_study_that_is_being_prepared_holds_a_place_as_a_trial_does(store, submit):
    see(store, 2)
    ann = submit("ann", running=False)
    with store.begin() as session:
        lease = leases.claim(session, "one", 60)
        [study_id] = session.scalars(select(Study.id))
        studies.change_state(session, study_id, Action.PREPARE)

    def found() -> tuple[int, int]:
        with store.begin() as session:
            [one] = demand.demands(session)
            return one.open, len(one.running)

    assert found() == (1, 0), "within its quota, though its task may have no place yet"
    preparing._begun(store, lease, [study_id], WORKER)
    assert found() == (1, 1)
    with store.begin() as session:
        [one] = cluster.running(session)
        assert (one.study.id, one.trial, one.worker["host"]) == (study_id, None, "h")
    plan(store)
    pass_time(store, 9)
    plan(store)
    with store.begin() as session:
        assert session.get_one(OwnerUsage, "ann").used == pytest.approx(4.5, abs=0.5)
        assert leases.without_place(session, [ann.group_id]) == set()
        session.execute(update(Group).values(max_live=0))
        assert leases.without_place(session, [ann.group_id]) == set()
        studies.change_state(session, study_id, Action.RUN)
        assert leases.without_place(session, [ann.group_id]) == {ann.group_id}


def test_what_a_dead_runner_prepared_holds_no_place(store, submit):
    ann = submit("ann", running=False)
    with store.begin() as session:
        leases.claim(session, "one", 60)
        [study] = session.scalars(select(Study))
        studies.change_state(session, study.id, Action.PREPARE)
        study.prepared_on = WORKER
        held = update(Group).where(Group.id == ann.group_id)
        session.execute(held.values(expires_at=func.now() - text("interval '1 second'")))
    with store.begin() as session:
        leases.claim(session, "two", 60)
    with store.begin() as session:
        assert session.scalars(select(Study.prepared_on)).one() is None


def test_room_is_made_for_a_trial_that_others_lie_astride_of(store, submit):
    see(store, 8, 2)
    halves = submit("ann", trials=9, max_concurrent=4, cpus=0.25, gpus=0.5)
    plan(store)
    for ordinal, card in enumerate(("0", "1")):
        start(store, halves, ordinal, device=f"cuda:{card}")
    submit("bob", trials=9, cpus=0.25, gpus=1)
    reservations = Reservations()
    assert plan(store, reservations=reservations)["ann"][0] == 2
    for wait in reservations._waits.values():
        wait.since -= PATIENCE
    assert plan(store, reservations=reservations) == {
        "ann": (1, "room is made for a trial of bob that fits nowhere else"),
        "bob": (1, "has 1 place, free as soon as trials of ann end"),
    }


def test_of_two_planners_one_plans(store, submit):
    submit("ann")
    settings = Settings(database_url=store.url)
    with store.begin() as first:
        assert planner.plan(first, settings, 16)
        with store.begin() as second:
            assert not planner.plan(second, settings, 16)
    with store.begin() as second:
        assert planner.plan(second, settings, 16)


def test_nodes_that_are_seen_no_more_are_gone_and_after_a_day_forgotten(store):
    see(store, 2)
    with store.begin() as session:
        nodes.observe(session, [Seen("m", "10.0.0.2", "other", 4, 1, 2**30, {"zone": "b"})])
        assert [(node.id, alive) for node, alive in nodes.known(session)] == [("n", False), ("m", True)]
    with store.begin() as session:
        session.execute(update(Node).where(Node.id == "n").values(seen_at=func.now() - datetime.timedelta(days=2)))
    with store.begin() as session:
        nodes.observe(session, [])
        assert [(node.id, alive) for node, alive in nodes.known(session)] == [("m", False)]


def test_use_is_charged_by_the_second_and_halves(store):
    def charge(share: float) -> float:
        with store.begin() as session:
            usage.charge(session, {"ann": Standing(share, 1.0, {})})
            return session.get_one(OwnerUsage, "ann").used

    assert charge(0.5) == 0.0, "from now on"
    pass_time(store, 4)
    assert charge(0.5) == pytest.approx(2.0, abs=0.2)
    pass_time(store, HALF_LIFE)
    assert charge(0.0) == pytest.approx(1.0, abs=0.1)
    pass_time(store, 3600)
    assert charge(1.0) == pytest.approx(usage.LONGEST_TURN, abs=0.5), "nobody pays for what nobody watched"


def test_a_lead_lasts_while_its_owner_has_work_and_halves_while_it_has_none(store):
    def charge(**shares: float) -> dict[str, float]:
        with store.begin() as session:
            return usage.charge(session, {name: Standing(share, 1.0, {}) for name, share in shares.items()})

    charge(ann=1, bob=0)
    for _ in range(60):
        pass_time(store, 9)
        ahead = charge(ann=1, bob=0)
    assert ahead == {"ann": pytest.approx(540, rel=0.03), "bob": 0}
    for _ in range(60):
        pass_time(store, 9)
        ahead = charge(ann=0.5, bob=0.5)
    assert ahead == {"ann": pytest.approx(540, rel=0.03), "bob": 0}
    pass_time(store, HALF_LIFE)
    assert charge(bob=1) == {"bob": 0}, "alone nobody is ahead"
    assert charge(ann=0, bob=1) == {"ann": pytest.approx(270, rel=0.05), "bob": 0}


def pass_time(store, seconds: float) -> None:
    with store.begin() as session:
        session.execute(update(OwnerUsage).values(at=OwnerUsage.at - datetime.timedelta(seconds=seconds)))
