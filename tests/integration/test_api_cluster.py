"""``GET /cluster`` over real rows, and the command that prints it."""

import pytest

from mudman.specs import parse
from service.cli.cluster import show
from service.store import attempts, leases, nodes, optuna_rows, studies
from service.store.nodes import Seen
from service.store.states import Action
from service.store.tables import Group, Study
from service.store.usage import Standing, charge


def spec(owner: str, name: str, priority: int = 0):
    return parse(
        {
            "name": name,
            "owner": owner,
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
            "resources": {"gpus": 0.5, "cpus": 2},
        }
    )


@pytest.fixture(scope="module")
def busy(database):
    """One trial runs, two studies wait, one node is in quarantine."""
    with database.begin() as session:
        nodes.observe(
            session,
            [Seen("n1", "10.0.0.1", "alpha", 8, 1, 2**30, {}), Seen("n2", "10.0.0.2", "beta", 4, 0, 2**30, {})],
        )
        nodes.quarantine(session, "n2", 600, "6 trials in a row failed")
        first = studies.create(session, spec("ann", "runs", priority=5)).study
        claim = leases.claim(session, "one", 60)
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, first.id, action)
        optuna_rows.create(session, first.id, "maximize")
        for ordinal in (0, 1):
            attempts.start(session, claim, first.id, ordinal, 1, {}, distributions={})
        worker = {"node_id": "n1", "host": "alpha", "device": "cuda:0", "pid": 7}
        attempts.progress(session, claim, [attempts.Report(first.id, 0, 1, None, worker)])
        late = studies.create(session, spec("bob", "late")).study
        urgent = studies.create(session, spec("bob", "urgent", priority=1)).study
        group = session.get_one(Group, session.get_one(Study, late.id).group_id)
        group.max_live, group.waiting = 0, "the cluster is full: ann 2 CPUs and 0.5 GPUs in 1 trial"
        quota = {"cpus": 8.0, "gpus": None, "trials": 2}
        charge(session, {"ann": Standing(0.5, 2.0, quota)})
    return first.id, late.id, urgent.id


def test_says_who_runs_what_and_why_something_waits(api, database, busy):
    first, late, urgent = busy
    before = api.get("/cluster").json()
    assert {study["reason"] for study in before["waiting"]} == {"no dispatcher is alive: start one"}
    with database.begin() as session:
        leases.seen(session, "one", "control", 42)
    found = api.get("/cluster").json()
    used = [(node["host"], node["alive"], node["used"]["gpus"], node["used"]["trials"]) for node in found["nodes"]]
    assert used == [("alpha", True, 0.5, 1), ("beta", True, 0.0, 0)]
    assert [bool(node["quarantine"]) for node in found["nodes"]] == [False, True]
    assert found["nodes"][1]["quarantine"]["reason"] == "6 trials in a row failed"
    [trial] = found["running"]  # the other one has no place yet
    assert (trial["study"], trial["name"], trial["owner"], trial["ordinal"]) == (first, "runs", "ann", 0)
    assert (trial["host"], trial["node"], trial["device"]) == ("alpha", "n1", "cuda:0")
    waiting = [(study["position"], study["study"], study["max_live"], study["reason"]) for study in found["waiting"]]
    assert waiting == [
        (1, urgent, None, "a dispatcher is about to start its runner"),
        (2, late, 0, "the cluster is full: ann 2 CPUs and 0.5 GPUs in 1 trial"),
    ]
    assert found["waiting_total"] == 2
    [owner] = found["owners"]
    assert owner["used"] == {"cpus": 2.0, "gpus": 0.5, "trials": 1}
    assert (owner["weight"], owner["quota"]["cpus"], owner["quota"]["gpus"]) == (2.0, 8.0, None)
    assert [one["id"] for one in found["dispatchers"]] == ["one"]


def test_a_study_that_is_being_prepared_holds_a_place_and_one_that_waits_to_be_is_listed(api, database, busy):
    place = {"node_id": "n2", "host": "beta", "device": "cpu", "since": "2026-11-21T09:00:30+00:00"}
    with database.begin() as session:
        leases.seen(session, "one", "control", 42)
        first, second = (studies.create(session, spec("cyd", name, priority=9)).study for name in ("here", "nowhere"))
        for study in (first, second):
            leases.claim(session, "one", 60)
            studies.change_state(session, study.id, Action.PREPARE)
        first.prepared_on = place
    found = api.get("/cluster").json()
    [running] = [one for one in found["running"] if one["owner"] == "cyd"]
    assert (running["study"], running["ordinal"], running["attempt"]) == (first.id, None, None)
    assert (running["host"], running["node"], running["since"]) == ("beta", "n2", "2026-11-21T09:00:30Z")
    assert [node["used"]["cpus"] for node in found["nodes"]] == [2.0, 2.0]
    waiting = [(one["study"], one["reason"]) for one in found["waiting"] if one["owner"] == "cyd"]
    assert waiting == [(second.id, "its preparation is about to start")]
    with database.begin() as session:
        studies.change_state(session, first.id, Action.CANCEL)
        studies.change_state(session, second.id, Action.CANCEL)
    assert [one["owner"] for one in api.get("/cluster").json()["running"]] == ["ann"]


def test_the_command_prints_it(api, busy, capsys):
    show(api.get("/cluster").json())
    printed = capsys.readouterr().out
    for words in ("alpha", "0.5 of 1", "in quarantine until", "runs", "0.1", "the cluster is full", "2 of 8", "1 of 2"):
        assert words in printed
