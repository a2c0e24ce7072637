"""What can be wrong with a request, and a database that goes away: always a problem document with the remedy."""

import copy
import json
import time

import pytest
from fastapi.testclient import TestClient
from problem_documents import assert_problem

from mudman import presets
from service.app import create_app
from service.store import leases
from service.store.database import Database
from service.store.settings import Settings

YAML = {"Content-Type": "application/yaml"}
JSON = {"Content-Type": "application/json"}
LAUGHS = ", ".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))


def test_every_wrong_field_is_reported_at_once(api):
    document = copy.deepcopy(presets.load("quickstart"))
    document["method"]["unlearning_rate"] = {"low": 0.0, "high": 0.1, "log": True}
    document["method"]["retain_momentum"] = {"low": 0.9, "high": 0.1}
    document["budget"] = {"unlearn_passes": 151, "trials": 0}
    document["attack"]["passes"] = 61
    document["bugdet"] = {}
    del document["model"]
    problem = assert_problem(api.post("/studies", json=document), 422, "invalid-spec")
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {
        "/method/unlearning_rate",
        "/method/retain_momentum",
        "/budget/trials",
        "/attack/passes",
        "/bugdet",
        "/model",
    } <= pointers
    assert all(error["detail"] and error["remedy"] for error in problem["errors"])
    assert next(error for error in problem["errors"] if error["pointer"] == "/bugdet")["remedy"].startswith(
        "did you mean"
    )


def test_faults_of_a_preset_point_into_the_overrides(api):
    overrides = {"budget.trials": 0, "attack": {"rate": -1}, "method.adversary": {"type": "nobody"}, "a/b": 1}
    problem = assert_problem(api.post("/studies", json={"preset": "quickstart", "overrides": overrides}), 422)
    assert {error["pointer"] for error in problem["errors"]} == {
        "/overrides/budget.trials",
        "/overrides/attack/rate",
        "/overrides/method.adversary/type",
        "/overrides/a~1b",
    }


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"preset": "nothing"}, "/preset"),
        ({"preset": 3}, "/preset"),
        ({"preset": "quickstart", "override": {}}, "/override"),
        ({"preset": "quickstart", "overrides": []}, "/overrides"),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_bodies_that_are_no_study(api, body, pointer):
    problem = assert_problem(api.post("/studies", content=json.dumps(body), headers=JSON), 422, "invalid-spec")
    assert pointer in {error["pointer"] for error in problem["errors"]}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", JSON),
        ("{", JSON),
        ('{"name": NaN}', JSON),
        ('{"budget": {"trials": 1e999}}', JSON),
        ("[" * 50_000, JSON),
        ('{"preset": "quickstart", "overrides": ' + '{"a": ' * 800 + "1" + "}" * 801, JSON),
        ('{"name": ' + "[" * 800 + "]" * 800 + "}", JSON),
        ('{"labels": ' + '{"a": ' * 800 + "1" + "}" * 801, JSON),
        ('{"a": ' + "9" * 5000 + "}", JSON),
        ('{"name": "\\ud800"}', JSON),
        ('{"name": "\\u0000"}', JSON),
        (b"\xff\xfe\x00", JSON),
        ("a: [", YAML),
        ("a: 1\na: 2", YAML),
        ("--- 1\n--- 2", YAML),
        ("!!python/object:os.system {}", YAML),
        ("1: 2\nnull: 3", YAML),
        ("name: 2001-01-01", YAML),
        ("name: 2001-99-99", YAML),
        ("{preset: quickstart, overrides: {1: 2}}", YAML),
        ("{preset: quickstart, overrides: {budget: {1: 2}}}", YAML),
        ("{preset: quickstart, overrides: &a [*a]}", YAML),
        ("[" * 500, YAML),
        ("? {a: b}\n: c", YAML),
        ("a: !!float x", YAML),
        ("a: !!timestamp x", YAML),
        ("a: !!binary '?'", YAML),
        ("a: !!int x", YAML),
        ("a: !!set {x}", YAML),
        ("a: !!omap [1]", YAML),
        ("%YAML 9.9\n--- a", YAML),
        ("a: \x07", YAML),
        ("{preset: quickstart, overrides: {a0: &a0 x, " + LAUGHS + "}}", YAML),
        ("{preset: quickstart, overrides: {labels: {a0: &a0 x, " + LAUGHS + "}}}", YAML),
        ("{a0: &a0 x, " + LAUGHS + "}", YAML),
    ],
)
def test_no_text_whatever_gets_through_or_breaks_the_server(api, text, headers):
    started = time.monotonic()
    assert_problem(api.post("/studies", content=text, headers=headers), 422, "invalid-spec")
    assert time.monotonic() - started < 5


def test_a_huge_body_is_413(api):
    problem = assert_problem(api.post("/studies", content=b" " * 1_000_001, headers=JSON), 413, "body-too-large")
    assert "MUDMAN_MAX_BODY_BYTES" in problem["detail"]
    assert_problem(api.post("/studies", content=(b" " * 100_000 for _ in range(11)), headers=JSON), 413)
    assert_problem(api.post("/studies", content=b" " * 999_999, headers=JSON), 422)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}, JSON | {"Content-Encoding": "gzip"}],
)
def test_other_kinds_of_body_are_415(api, headers):
    problem = assert_problem(api.post("/studies", content=b"{}", headers=headers), 415, "unsupported-body")
    assert "Send" in problem["detail"]


FAMILY, QUICKSTART = "methods-small", presets.load("quickstart")
HALF = "\ud800"
"""Half of a surrogate pair: valid in JSON's escapes, and in no output."""


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/studies", {"preset": FAMILY, "overrides": {"variants": None}}, "/overrides/variants"),
        ("/studies", {"preset": FAMILY, "overrides": {"variants": 3}}, "/overrides/variants"),
        ("/studies", {"preset": FAMILY, "overrides": {"variants": []}}, "/overrides/variants"),
        ("/comparisons", {"preset": FAMILY, "overrides": {"variants": None}}, "/overrides/variants"),
        ("/comparisons", {"preset": "quickstart", "overrides": {"variants": {HALF: {}}}}, "/overrides/variants"),
        ("/comparisons", QUICKSTART | {"variants": {HALF: {}}}, "/variants/\\ud800"),
        ("/comparisons", QUICKSTART | {"variants": {HALF: 3}}, "/variants/\\ud800"),
        ("/comparisons", QUICKSTART | {"variants": {"a": {HALF: 3}}}, "/variants/a"),
        (
            "/comparisons",
            presets.load("quickstart") | {"variants": {"a": {f"name.{HALF}": 3}}},
            "/variants/a/name.\\ud800",
        ),
    ],
)
def test_variants_of_no_form_whatever(api, path, body, pointer):
    problem = assert_problem(api.post(path, content=json.dumps(body), headers=JSON), 422, "invalid-spec")
    assert pointer in {error["pointer"] for error in problem["errors"]}


def test_names_that_lead_nowhere_are_refused_at_the_door(api):
    overrides = {"name": "nowhere", "model.id": "tiny-lama", "retain": {"corpus": "wikipedia"}}
    answer = api.post("/studies?dry_run=1", json={"preset": "quickstart", "overrides": overrides})
    [error] = assert_problem(answer, 422, "invalid-spec")["errors"]
    assert error["pointer"] == "/overrides/model.id"
    assert "did you mean 'tiny-llama'" in error["remedy"]


def test_local_folders_lie_below_the_data_root(api, data_root):
    def post(model: str, corpus: str):
        overrides = {"name": "local", "model": {"id": model}, "forget.corpus": corpus}
        return api.post("/studies?dry_run=1", json={"preset": "quickstart", "overrides": overrides})

    (data_root / "here").mkdir()
    (data_root / "out").symlink_to("/etc")
    assert post("./here", str(data_root / "here")).status_code == 200
    wrong = [("/etc", "../texts"), ("./nothing", "./out"), ("./here/../../x", "./" + "x" * 190)]
    for model, corpus in wrong:
        problem = assert_problem(post(model, corpus), 422, "invalid-spec")
        pointers = [error["pointer"] for error in problem["errors"]]
        assert pointers == ["/overrides/model/id", "/overrides/forget.corpus"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("state=flying", "state"),
        ("limit=0", "limit"),
        ("limit=9999", "limit"),
        ("limit=x", "limit"),
        ("label=nocolon", "label"),
        ("label=team:red&label=team:blue", "label"),
        ("text=%00", "text"),
        ("owner=%00", "owner"),
        ("label=a:%00", "label"),
        ("lmit=3", "lmit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=W10", "cursor"),
        ("cursor=WzEsMl0", "cursor"),
        ("cursor=WyJ4IiwieSJd", "cursor"),
        ("cursor=" + "W1tb" * 100, "cursor"),
        ("cursor=%F0%9F%A6%8A", "cursor"),
        ("cursor=", "cursor"),
    ],
)
def test_unknown_query_values_are_422(api, query, path):
    problem = assert_problem(api.get(f"/studies?{query}"), 422)
    assert [(error["path"], error["pointer"]) for error in problem["errors"]] == [(path, "")]
    assert problem["errors"][0]["remedy"]


def test_a_misspelt_parameter_is_named(api):
    problem = assert_problem(api.get("/studies?lmit=3"), 422, "invalid-request")
    assert problem["errors"][0]["remedy"] == "did you mean 'limit'?"


@pytest.mark.parametrize("study_id", ["st_AAAAAAAAAAAAAAAA", "x", "%00", "..%2fx", "%f0%9f", "é"])
@pytest.mark.parametrize("path", ["", "/best", "/trials", "/trials/0"])
def test_unknown_ids_are_404(api, study_id, path):
    assert_problem(api.get(f"/studies/{study_id}{path}"), 404)


def test_unknown_addresses_and_methods(api):
    assert "/openapi.json" in assert_problem(api.get("/nothing"), 404, "not-found")["detail"]
    answer = api.delete("/studies")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, POST"
    assert api.put("/studies/x/cancel").headers["allow"] == "POST"


def test_health_and_readiness(api, database):
    assert api.get("/healthz").json() == {"status": "ok"}
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "none seen" in answer.json()["checks"]["dispatcher"]
    with database.begin() as session:
        leases.seen(session, "dispatcher-1", "here", 1)
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert set(answer.json()["checks"].values()) == {"ok"}


def test_a_database_that_is_not_migrated(postgres):
    settings = Settings(database_url=postgres.create(template="template1"))
    with TestClient(create_app(settings)) as api:
        problem = assert_problem(api.get("/studies"), 503, "database-unavailable")
        assert "service.store.migrate" in problem["detail"]
        checks = api.get("/readyz").json()["checks"]
        assert checks["database"] == "ok"
        assert "service.store.migrate" in checks["migrations"]


def test_a_database_that_stops_and_comes_back(postgres):
    url = postgres.create()
    body = {"preset": "quickstart"}
    with TestClient(create_app(Settings(database_url=url))) as api:
        study_id = api.post("/studies", json=body).json()["id"]
        postgres.stop()
        try:
            for call in (
                lambda: api.get("/studies"),
                lambda: api.post("/studies", json=body),
                lambda: api.get(f"/studies/{study_id}"),
                lambda: api.post(f"/studies/{study_id}/cancel"),
            ):
                started = time.monotonic()
                answer = call()
                assert time.monotonic() - started < 5
                assert_problem(answer, 503, "database-unavailable")
                assert int(answer.headers["retry-after"]) > 0
            assert api.get("/healthz").status_code == 200
            ready = api.get("/readyz")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert api.post("/studies?dry_run=true", json=body).status_code == 200
        finally:
            postgres.start()
        assert api.get(f"/studies/{study_id}").json()["state"] == "queued"
        assert api.post("/studies", json=body).status_code == 200


def test_busy_connections_are_503_within_seconds(postgres):
    app = create_app(Settings(database_url=postgres.create()))
    app.state.database = Database(postgres.create(), pool_size=1)
    with TestClient(app) as api, app.state.database.begin() as session:
        session.connection()
        started = time.monotonic()
        assert "busy" in assert_problem(api.get("/studies"), 503)["detail"]
        assert time.monotonic() - started < 5
