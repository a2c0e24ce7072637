"""What operators watch, against rows made by hand, and what is said when there is no database to ask."""

import json
import logging
from random import Random

import pytest
from fastapi.testclient import TestClient
from guarded import shown
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from mudman import presets
from mudman.specs import parse
from service.app import create_app
from service.store import actions, gauges, studies, tokens
from service.store.scopes import Scope
from service.store.settings import Settings
from service.store.tables import Group, OutcomeCount, Study

SPEC = {"resources": {"cpus": 2.0, "gpus": 0.5}}
SPECS = {"over": {"resources": {}}, "waits": {}}
"""Of these groups; a spec is stored without what nobody wrote."""
COUNTERS = ("mudman_trials_total", "mudman_trial_seconds", "mudman_core_seconds", "mudman_gpu_seconds")
GROUPS = {
    # expires_at, not_before, max_live: seconds from now
    "held": (15, None, 2),
    "waits": (12, None, 0),
    "expired": (-40, None, None),
    "free": (None, -1, None),
    "rests": (None, 60, None),
    "over": (None, None, None),
    "turn": (None, None, 0),
}


def id_of(group: str) -> str:
    """Of its study."""
    return f"st_{group:_<16}"


@pytest.fixture(scope="module")
def rows(database) -> None:
    with database.begin() as session:

        def add(table: str, **values) -> None:
            places = ", ".join(
                f"now() + make_interval(secs => :{name})"
                if name in ("expires_at", "not_before", "queued_at", "seen_at", "quarantined_until")
                else f":{name}"
                for name in values
            )
            values = {name: json.dumps(v) if isinstance(v, dict) else v for name, v in values.items()}
            session.execute(text(f"insert into mudman.{table} ({', '.join(values)}) values ({places})"), values)

        for number, (group, (expires_at, not_before, max_live)) in enumerate(GROUPS.items()):
            add("study_group", id=group, priority=0, expires_at=expires_at, not_before=not_before, max_live=max_live)
            state = {"free": "queued", "rests": "queued", "over": "completed"}.get(group, "running")
            study = {
                "id": id_of(group),
                "group_id": group,
                "name": group,
                "state": state,
                "spec": SPECS.get(group, SPEC),
            }
            owner = "ann" if number < 3 else "ben"
            add("study", owner=owner, spec_version=1, spec_hash="", queued_at=-100 - number, **study)
        for study, outcome, attempts, seconds in (
            (id_of("held"), "valid", 5, 50.0),
            (id_of("waits"), "valid", 2, 20.0),
            (id_of("waits"), "error", 1, 3.0),
            (id_of("over"), "lost", 4, 8.0),
        ):
            add("outcome_count", study_id=study, outcome=outcome, attempts=attempts, seconds=seconds)
        begun = {"worker": {"node": "n"}}
        for group, ordinal, more in (
            ("held", 0, begun | {"outcome": "valid"}),
            ("held", 1, begun),
            ("held", 2, {}),
            ("expired", 0, begun),
        ):
            key = {"study_id": id_of(group), "ordinal": ordinal, "attempt": 1, "epoch": 1, "hyperparameters": {}}
            add("trial", **key, **more)
        node = {"address": "a", "host": "h", "cpus": 8.0, "gpus": 2.0, "memory_bytes": 1, "labels": {}}
        add("node", id="good", alive=True, **node)
        add("node", id="bad", alive=True, quarantined_until=60, **node)
        add("node", id="forgiven", alive=True, quarantined_until=-60, **node)
        add("node", id="gone", alive=False, **node)
        add("node", id="head", alive=True, **node | {"cpus": 0.0, "gpus": 0.0})
        add("dispatcher", id="d1", host="h", pid=1, seen_at=-5)
        add("dispatcher", id="d2", host="h", pid=2, seen_at=-500)


def sample(api: TestClient) -> dict[str, float]:
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for name, labels, value, *_ in family.samples:
            values = ",".join(labels.values())
            found[f"{name}{{{values}}}" if values else name] = value
    return found


def test_every_number_is_the_rows(api, rows):
    found = sample(api)
    assert (found["mudman_database_up"], found["mudman_database_current"]) == (1, 1)
    states = {"queued": 2, "running": 4, "completed": 1, "preparing": 0, "paused": 0, "failed": 0, "cancelled": 0}
    assert {state: found[f"mudman_studies{{{state}}}"] for state in states} == states
    assert found["mudman_queue_length"] == 2
    assert found["mudman_queue_oldest_wait_seconds"] == pytest.approx(104, abs=30)
    groups = {"held": 2, "expired": 1, "unclaimed": 1, "resting": 1}
    assert {lease: found[f"mudman_groups{{{lease}}}"] for lease in groups} == groups
    assert found["mudman_groups_without_share"] == 2
    assert found["mudman_lease_least_remaining_seconds"] == pytest.approx(-40, abs=30)
    assert found["mudman_trials_live"] == 3
    # Of one that runs: the next one waits for a place, and the runner of the third is gone.
    assert (found["mudman_cores_held{ann}"], found["mudman_gpus_held{ann}"]) == (2, 0.5)
    assert (found["mudman_cores_held{ben}"], found["mudman_gpus_held{ben}"]) == (0, 0)
    assert (found["mudman_trials_total{valid}"], found["mudman_trial_seconds_total{valid}"]) == (7, 70)
    assert (found["mudman_trials_total{error}"], found["mudman_trials_total{lost}"]) == (1, 4)
    assert found["mudman_trials_total{out_of_memory}"] == 0
    # 2 cores and half a card over 50 s, by default one core and no card over 23 s; and so over 8 s.
    assert (found["mudman_core_seconds_total{ann}"], found["mudman_gpu_seconds_total{ann}"]) == (123, 25)
    assert (found["mudman_core_seconds_total{ben}"], found["mudman_gpu_seconds_total{ben}"]) == (8, 0)
    nodes = {"alive": 2, "quarantined": 1, "gone": 1}
    assert {state: found[f"mudman_nodes{{{state}}}"] for state in nodes} == nodes
    assert (found["mudman_node_resources{cpu}"], found["mudman_node_resources{gpu}"]) == (24, 6)
    assert found["mudman_dispatchers"] == 1
    assert found["mudman_dispatcher_last_seen_seconds"] == pytest.approx(5, abs=30)


def test_the_price_does_not_grow_with_trials(database, rows):
    """No plan of a scrape reads the table of trials but for those without an end."""
    with database.begin() as session:
        session.execute(text("set local enable_seqscan = off"))
        executed = []

        def note(state):
            executed.append(state.statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))

        from sqlalchemy import event

        event.listen(session, "do_orm_execute", note)
        gauges.read(session, within=10)
        event.remove(session, "do_orm_execute", note)
        plans = ["\n".join(session.scalars(text(f"explain {statement}"))) for statement in executed]
    touching = [plan for plan in plans if " on trial" in plan or "ix_trial" in plan or "pk_trial" in plan]
    assert len(executed) >= 7
    assert len(touching) == 2
    assert all("ix_trial_open" in plan for plan in touching)


def test_counters_never_fall(api, database, rows):
    """Prometheus takes a counter that falls for one that began anew, and adds all that is left of it."""
    before = sample(api)
    with database.begin() as session:
        actions.remove(session, [session.get_one(Study, id_of("over"))])
    after = sample(api)
    assert after["mudman_studies{completed}"] == before["mudman_studies{completed}"] - 1
    counters = {name: value for name, value in before.items() if name.startswith(COUNTERS)}
    assert len(counters) > 15
    assert {name: after[name] for name in counters} == counters


def test_no_deletion_lets_a_sum_of_floats_fall(new_database):
    """Addends in another order come to another float."""
    database, random, outcomes = new_database(), Random(2611), ("valid", "lost", "error")
    ids = [f"st_{number:016}" for number in range(40)]
    with database.begin() as session:
        for number, study in enumerate(ids):
            spec = {"resources": {"cpus": random.uniform(0.1, 8), "gpus": random.random()}}
            session.add(Group(id=study))
            session.flush()
            named = {"name": study, "owner": ("ann", "ben")[number % 2], "state": "completed"}
            session.add(Study(id=study, group_id=study, spec=spec, spec_version=1, spec_hash="", **named))
            session.flush()
            for outcome in outcomes:
                session.add(OutcomeCount(study_id=study, outcome=outcome, attempts=1, seconds=random.uniform(0, 9e4)))
    with TestClient(create_app(Settings(database_url=database.url))) as client:
        before = {name: value for name, value in sample(client).items() if name.startswith(COUNTERS)}
        for study in random.sample(ids, len(ids)):
            with database.begin() as session:
                actions.remove(session, [session.get_one(Study, study)])
            after = sample(client)
            assert {name: after[name] for name in before} == before


def test_counters_are_there_before_anything_is_counted(new_database):
    """A rate needs a beginning: the first of its kind would be none."""
    database = new_database()
    with database.begin() as session:
        studies.create(session, parse(presets.load("quickstart") | {"owner": "new"}))
    with TestClient(create_app(Settings(database_url=database.url))) as client:
        found = sample(client)
    assert (found["mudman_core_seconds_total{new}"], found["mudman_gpu_seconds_total{new}"]) == (0, 0)
    for route in ("/studies/{study_id}", "/metrics", "/ui/cluster", "none"):
        assert found[f"mudman_http_exceptions_total{{{route}}}"] == 0


def test_requests_are_measured_by_route(api):
    api.get("/studies/st_none")
    api.get("/studies/st_other")
    api.get("/nowhere/at/all")
    found = sample(api)
    assert found["mudman_http_request_duration_seconds_count{GET,/studies/{study_id},404}"] == 2
    assert found["mudman_http_request_duration_seconds_count{GET,none,404}"] == 1


def test_a_dispatcher_lives_as_long_as_readiness_says(database, rows):
    """One that is seen every 30 s is alive for 150 s."""
    with database.begin() as session:
        assert [gauges.read(session, within=within).dispatchers for within in (1, 10, 9999)] == [0, 1, 2]
    app = create_app(Settings(database_url=database.url, dispatcher_poll=9999))
    with TestClient(app) as client:
        assert sample(client)["mudman_dispatchers"] == 2
        assert client.get("/readyz").json()["checks"]["dispatcher"] == "ok"


def test_of_methods_that_nobody_knows_there_is_no_end(api):
    for number in range(3):
        api.request(f"MADEUP{number}", "/healthz")
    found = {name: value for name, value in sample(api).items() if name.endswith("count{other,/healthz,405}")}
    assert found == {"mudman_http_request_duration_seconds_count{other,/healthz,405}": 3}
    assert not [name for name in sample(api) if "MADEUP" in name]


def test_without_a_database_it_says_so_and_goes_on():
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    with TestClient(app) as client:
        found = sample(client)
    assert found["mudman_database_up"] == 0
    assert found["process_cpu_seconds_total"] > 0
    assert not [
        name for name in found if name.startswith(("mudman_database_current", "mudman_studies", "mudman_trials"))
    ]


def test_without_a_database_to_look_its_token_up_in_prometheus_is_told_that_alone():
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", access="tokens"))
    with TestClient(app) as client:
        client.headers = shown(tokens.new_text())
        assert sample(client) == {"mudman_database_up": 0}
        assert client.get("/studies").status_code == 503
        assert client.head("/metrics").status_code == 503
        for given in ({}, shown("nonsense")):
            client.headers = given
            assert client.get("/metrics").status_code == 401


def test_a_database_of_another_version_is_no_silent_one(new_database):
    database = new_database()
    with database.begin() as session:
        tokens.create(session, owner="ann", scope=Scope.READ, days=1, value=(value := tokens.new_text()))
        session.execute(text("update mudman.mudman_version set version_num = '0005_access'"))
    for access in ("off", "tokens"):
        with TestClient(create_app(Settings(database_url=database.url, access=access))) as client:
            client.headers = shown(value)
            found = sample(client)
        assert (found["mudman_database_up"], found["mudman_database_current"]) == (1, 0)
        assert not [name for name in found if name.startswith(("mudman_studies", "mudman_trials"))]


def test_a_database_without_tables_is_told_from_one_that_is_away(postgres):
    """No token can be looked up there either."""
    empty = postgres.create("template1")
    with TestClient(create_app(Settings(database_url=empty, access="tokens"))) as client:
        client.headers = shown(tokens.new_text())
        assert sample(client) == {"mudman_database_up": 1, "mudman_database_current": 0}


def test_a_request_is_one_line_with_the_id_that_the_client_gave(api, caplog):
    with caplog.at_level(logging.INFO, "service.request_log"):
        answer = api.get("/studies/st_none", headers={"X-Request-ID": "from-the-proxy/7"})
    assert answer.headers["X-Request-ID"] == "from-the-proxy/7"
    [line] = [record for record in caplog.records if record.name == "service.request_log"]
    assert (line.method, line.path, line.status) == ("GET", "/studies/st_none", 404)
    assert line.study_id == "st_none"
    assert 0 < line.duration_ms < 10_000


@pytest.mark.parametrize("given", ["", "two words", "x" * 129])
def test_an_id_that_could_forge_a_line_is_replaced(api, given):
    own = api.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert own != given
    assert len(own) == 16


def test_a_mistake_of_the_server_is_counted_and_named_in_its_answer(api, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("service.routes.studies.pages.studies", broken)
    answer = api.get("/studies", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "mine")
    assert sample(api)["mudman_http_exceptions_total{/studies}"] == 1
