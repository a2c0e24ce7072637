"""Tokens, scopes and owners: every route asks for one, and each gives what it is for and no more."""

import logging
import re

import pytest
from guarded import guarded, shown, token
from problem_documents import assert_problem
from sqlalchemy import text

from mudman import presets
from mudman.documents import write_yaml
from service.access import rules
from service.store import tokens
from service.store.scopes import Scope

OPEN = {"GET /healthz", "GET /readyz"}


@pytest.fixture(scope="module")
def api(database, data_root):
    with guarded(database, data_root=data_root, requests_per_minute=0, failures_per_minute=0) as client:
        yield client


@pytest.fixture(scope="module")
def held(database) -> dict[str, str]:
    """A token of each kind: two people who submit, one who reads, an admin."""
    people = {"ann": "submit", "bob": "submit", "eve": "read", "root": "admin"}
    return {owner: token(database, owner, scope) for owner, scope in people.items()}


@pytest.fixture
def as_(held):
    return lambda owner: shown(held[owner])


def operations(api) -> list[tuple[str, str, dict]]:
    document = api.app.openapi()
    return [
        (method.upper(), path, one) for path, methods in document["paths"].items() for method, one in methods.items()
    ]


def concrete(path: str) -> str:
    """Leads to the route; nothing is there."""
    return re.sub(
        r"\{(\w+)\}", lambda part: {"ordinal": "0", "name": "quickstart"}.get(part[1], "st_AAAAAAAAAAAAAAAA"), path
    )


def submit(api, who: dict, name: str, **more):
    body = {"preset": "quickstart", "overrides": {"name": name} | more}
    return api.post("/studies", json=body, headers=who)


# ----------------------------------------------------------------------------------------------------- every route


def test_every_route_says_what_it_needs(api):
    schemes = api.app.openapi()["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    for method, path, operation in operations(api):
        name = f"{method} {path}"
        if name in OPEN:
            assert operation["security"] == []
            continue
        [scope] = {scope for one in operation["security"] for scopes in one.values() for scope in scopes}
        admin = path.startswith(("/tokens", "/audit"))
        assert scope == ("admin" if admin else "read" if method == "GET" else "submit"), name
        assert {"401", "403", "429", "503"} <= operation["responses"].keys(), name


def test_whatever_changes_something_is_a_thing_of_somebody_or_makes_one(api):
    """What a new route that fits neither would need: a rule of its own in ``service.access``."""
    changes = {f"{method} {path}" for method, path, _ in operations(api) if method not in rules.SAFE}
    loose = {name for name in changes if "{study_id}" not in name and "{comparison_id}" not in name}
    assert loose == {"POST /studies", "POST /comparisons", "POST /tokens", "DELETE /tokens/{token_id}"}


def test_no_route_answers_without_a_token(api):
    for method, path, _ in operations(api):
        answer = api.request(method, concrete(path))
        if f"{method} {path}" in OPEN:
            assert answer.status_code in (200, 503)
            continue
        assert_problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="mudman"'


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/nothing", "/", "/ui/cluster", "/dashboard/", "/api/studies", "/csv/1"]
)
def test_nothing_beside_the_routes_answers_either(api, path):
    assert_problem(api.get(path), 401, "not-authenticated")


def test_each_route_refuses_the_scope_below_its_own(api, held):
    below = {"submit": "eve", "admin": "ann"}
    refused = 0
    for method, path, operation in operations(api):
        needed = next((one["token"][0] for one in operation["security"] if "token" in one), "read")
        if needed not in below:
            continue
        answer = api.request(method, concrete(path), headers=shown(held[below[needed]]))
        problem = assert_problem(answer, 403, "insufficient-scope")
        assert problem["needed"] == needed
        assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
        refused += 1
    assert refused > 12


def test_scopes_contain_each_other():
    assert [[one.covers(other) for other in Scope] for one in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


# ------------------------------------------------------------------------------------------------------- one token


@pytest.mark.parametrize(
    "header",
    [
        "Bearer nonsense",
        "Bearer mudman_" + "A" * 43,
        "Basic cm9vdDpyb290",
        "Bearer",
        "",
        "Bearer é",
        "Bearer " + "x" * 9000,
    ],
)
def test_what_is_no_token_of_ours(api, header):
    answer = api.get("/studies", headers={"Authorization": header.encode()})
    assert_problem(answer, 401, "not-authenticated")
    assert "Bearer" in answer.headers["www-authenticate"]


def test_only_a_hash_is_kept(database, held):
    with database.begin() as session:
        rows = session.execute(text("select token::text from mudman.token")).scalars().all()
    assert len(rows) >= 4
    assert not any(value in row or value.removeprefix(tokens.PREFIX) in row for value in held.values() for row in rows)


def test_it_expires_by_the_clock_of_the_database(api, database):
    value = token(database, "shortly")
    assert api.get("/studies", headers=shown(value)).status_code == 200
    with database.begin() as session:
        session.execute(text("update mudman.token set expires_at = now() where owner = 'shortly'"))
    problem = assert_problem(api.get("/studies", headers=shown(value)), 401)
    assert "has expired" in problem["detail"]


def test_revoked_is_revoked_at_once_at_every_process(api, database, data_root, as_):
    made = api.post("/tokens", json={"owner": "zoe", "scope": "submit", "days": 3}, headers=as_("root"))
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    one = made.json()
    with guarded(database, data_root=data_root) as other:
        for process in (api, other):
            assert process.get("/studies", headers=shown(one["token"])).status_code == 200
        gone = api.delete(f"/tokens/{one['id']}", headers=as_("root"))
        assert (gone.status_code, gone.json()["id"]) == (200, one["id"])
        again = api.delete(f"/tokens/{one['id']}", headers=as_("root")).json()
        assert again["revoked_at"] == gone.json()["revoked_at"]
        for process in (api, other):
            assert "is revoked" in assert_problem(process.get("/studies", headers=shown(one["token"])), 401)["detail"]


def test_tokens_are_listed_without_their_text(api, as_, held):
    answer = api.get("/tokens", headers=as_("root"))
    listed = {one["owner"]: one for one in answer.json()["items"]}
    assert listed["eve"]["scope"] == "read"
    assert listed["root"]["used_at"] is not None
    assert "token" not in listed["eve"]
    assert not any(value in answer.text for value in held.values())
    assert [one["owner"] for one in api.get("/tokens?owner=bob", headers=as_("root")).json()["items"]] == ["bob"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"owner": "zoe"}, "/scope"),
        ({"owner": "zoe", "scope": "god"}, "/scope"),
        ({"owner": "zoe", "scope": "read", "days": 0}, "/days"),
        ({"owner": "zoe", "scope": "read", "days": 4000}, "/days"),
        ({"owner": "", "scope": "read"}, "/owner"),
        ({"owner": "zoe", "scope": "read", "for": 3}, "/for"),
    ],
)
def test_what_makes_no_token(api, as_, body, pointer):
    problem = assert_problem(api.post("/tokens", json=body, headers=as_("root")), 422)
    assert pointer in {error["pointer"] for error in problem["errors"]}


@pytest.mark.parametrize("token_id", ["tk_AAAAAAAAAAAA", "x", "%00", "é"])
def test_a_token_that_is_not_there(api, as_, token_id):
    assert_problem(api.delete(f"/tokens/{token_id}", headers=as_("root")), 404, "unknown-token")


def test_a_text_that_is_known_is_taken_as_it_is(database):
    """So that a system which is started with its first tokens may be started again: a revoked one stays revoked."""
    value = tokens.new_text()
    with database.begin() as session:
        first = tokens.create(session, owner="first", scope=Scope.READ, days=1, value=value)
        tokens.revoke(session, first.id)
        again = tokens.create(session, owner="other", scope=Scope.ADMIN, days=9, value=value)
        assert (again.id, again.owner, again.scope) == (first.id, "first", "read")
        assert again.revoked_at is not None
        for short in ("mudman_short", "x" * 60, ""):
            with pytest.raises(tokens.UnusableToken):
                tokens.create(session, owner="a", scope=Scope.READ, days=1, value=short)


# ----------------------------------------------------------------------------------------------------------- owners


def test_what_is_made_belongs_to_the_tokens_owner(api, as_):
    assert submit(api, as_("ann"), "of ann").json()["owner"] == "ann"
    assert submit(api, as_("ann"), "said", owner="ann").json()["owner"] == "ann"
    problem = assert_problem(submit(api, as_("ann"), "not of bob", owner="bob"), 403, "not-in-your-name")
    assert "'bob'" in problem["detail"]
    assert submit(api, as_("root"), "for bob", owner="bob").json()["owner"] == "bob"
    document = presets.load("quickstart") | {"name": "whole"}
    assert api.post("/studies", json=document, headers=as_("bob")).json()["owner"] == "bob"
    variants = {"sign": {}, "no_mask": {"method.mask": "none"}}
    compared = api.post("/comparisons", json=document | {"name": "both", "variants": variants}, headers=as_("bob"))
    assert (compared.status_code, compared.json()["owner"]) == (201, "bob")
    inner = api.get(f"/studies/{compared.json()['variants'][0]['study']}", headers=as_("eve"))
    assert inner.json()["owner"] == "bob"
    taken = document | {"name": "for ann", "owner": "ann", "variants": variants}
    assert_problem(api.post("/comparisons", json=taken, headers=as_("bob")), 403, "not-in-your-name")
    assert api.get("/studies?text=for ann", headers=as_("eve")).json()["items"] == []


def test_others_read_it_and_only_its_owner_and_admins_change_it(api, as_):
    made = submit(api, as_("ann"), "hers").json()["id"]
    variants = {"sign": {}, "no_mask": {"method.mask": "none"}}
    document = presets.load("quickstart") | {"name": "hers too", "variants": variants}
    compared = api.post("/comparisons", json=document, headers=as_("ann")).json()["id"]
    tried = 0
    for method, path, _ in operations(api):
        if "{study_id}" not in path and "{comparison_id}" not in path:
            continue
        here = path.replace("{study_id}", made).replace("{comparison_id}", compared)
        if method == "GET":
            if here in (f"/studies/{made}", f"/comparisons/{compared}"):
                assert api.get(here, headers=as_("eve")).status_code == 200
            continue
        problem = assert_problem(api.request(method, here, headers=as_("bob")), 403, "not-yours")
        assert "'ann'" in problem["detail"]
        tried += 1
    assert tried >= 10
    assert api.get(f"/studies/{made}", headers=as_("ann")).json()["state"] == "queued"
    assert api.post(f"/studies/{made}/cancel", headers=as_("ann")).status_code == 200
    assert api.post(f"/comparisons/{compared}/cancel", headers=as_("root")).status_code == 200
    assert_problem(api.post("/studies/st_AAAAAAAAAAAAAAAA/cancel", headers=as_("bob")), 404, "unknown-study")


# ------------------------------------------------------------------------------------------------------------- audit


def audited(api, as_, query: str = "") -> list[dict]:
    return api.get(f"/audit?limit=500{query}", headers=as_("root")).json()["items"]


def test_changes_and_refusals_are_on_record(api, as_, database):
    made = submit(api, as_("ann"), "on record")
    here = f"/studies/{made.json()['id']}"
    api.post(f"{here}/cancel", headers=as_("bob") | {"X-Request-ID": "refused-1"})
    api.get("/tokens", headers=as_("eve"))
    api.get(here, headers=as_("eve"))
    api.post("/studies?dry_run=true", json={"preset": "quickstart"}, headers=as_("ann"))
    api.delete(here, headers={"Authorization": "Bearer nonsense"})
    found = audited(api, as_)
    assert [(one["method"], one["path"], one["owner"], one["status"], one["detail"]) for one in found[:4]] == [
        ("DELETE", here, None, 401, "not-authenticated"),
        ("GET", "/tokens", "eve", 403, "insufficient-scope"),
        ("POST", f"{here}/cancel", "bob", 403, "not-yours"),
        ("POST", "/studies", "ann", 201, None),
    ]
    assert found[2]["request_id"] == "refused-1"
    assert found[3]["token_id"].startswith("tk_")
    assert {one["address"] for one in found[:4]} == {"testclient"}
    assert {one["owner"] for one in audited(api, as_, "&owner=bob")} == {"bob"}
    assert {one["status"] for one in audited(api, as_, "&status=403")} == {403}


def test_who_asks_for_a_page_without_a_good_token_is_on_record_too(api, as_):
    page = {"Accept": "text/html"}
    assert_problem(api.get("/studies", headers=page | {"Authorization": "Bearer nonsense"}), 401, "not-authenticated")
    led = api.get("/", headers=page | {"Cookie": "mudman_token=nonsense"}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/ui/sign-in?next=%2F")
    assert [(one["path"], one["status"], one["detail"]) for one in audited(api, as_)[:2]] == [
        ("/", 401, "not-authenticated"),
        ("/studies", 401, "not-authenticated"),
    ]


def test_no_parameter_hides_a_change(api, as_):
    made = submit(api, as_("ann"), "not hidden").json()["id"]
    api.post(f"/studies/{made}/cancel?dry_run=true", headers=as_("ann"))
    api.delete(f"/studies/{made}?dry_run=1", headers=as_("ann"))
    api.post("/tokens?dry_run=true", json={"owner": "ann", "scope": "read"}, headers=as_("root"))
    api.post("/studies?dry_run=0", json={"preset": "quickstart", "overrides": {"name": "made"}}, headers=as_("ann"))
    found = audited(api, as_)
    assert [(one["method"], one["path"], one["status"]) for one in found[:4]] == [
        ("POST", "/studies", 201),
        ("POST", "/tokens", 201),
        ("DELETE", f"/studies/{made}", 204),
        ("POST", f"/studies/{made}/cancel", 200),
    ]


def test_what_is_only_tried_is_no_event(api, as_):
    before = audited(api, as_)
    variants = {"variants": {"sign": {}, "no_mask": {"method.mask": "none"}}}
    document = presets.load("quickstart") | {"name": "only tried"}
    assert api.post("/studies?dry_run=true", json=document, headers=as_("ann")).status_code == 200
    assert api.post("/studies?dry_run=true", json=document | {"budget": 1}, headers=as_("ann")).status_code == 422
    assert api.post("/comparisons?dry_run=true", json=document | variants, headers=as_("ann")).status_code == 200
    assert audited(api, as_) == before


def test_the_form_is_on_record_where_it_starts_something_and_not_while_it_is_typed(api, as_):
    submit(api, as_("ann"), "taken")
    before = audited(api, as_)
    text = write_yaml(presets.load("quickstart", {"name": "taken", "budget.trials": 3}))
    page = api.post("/ui/new", data={"spec": text}, headers=as_("ann"))
    assert (page.status_code, "Valid: 3 trials" in page.text) == (200, True)
    assert audited(api, as_) == before
    page = api.post("/ui/new", data={"spec": text, "action": "start"}, headers=as_("ann"))
    assert (page.status_code, "already has a study named" in page.text) == (409, True)
    new = audited(api, as_)[: -len(before)]
    assert [(one["path"], one["status"], one["detail"]) for one in new] == [("/ui/new", 409, "name-taken")]


@pytest.mark.parametrize("action", ["check", "start"])
def test_the_form_keeps_what_was_typed_in_anothers_name(api, as_, action):
    text = write_yaml(presets.load("quickstart", {"name": "not mine", "owner": "bob"}))
    page = api.post("/ui/new", data={"spec": text, "action": action}, headers=as_("ann"))
    assert page.status_code == (200 if action == "check" else 403)
    assert 'id="verdict"' in page.text
    assert "owner: bob" in page.text
    assert "names owner" in page.text


def test_audit_events_page(api, as_):
    for name in ("page a", "page b", "page c"):
        submit(api, as_("ann"), name)
    whole = [one["id"] for one in audited(api, as_)]
    first = api.get("/audit?limit=2", headers=as_("root")).json()
    second = api.get(f"/audit?limit=2&before={first['next']}", headers=as_("root")).json()
    assert [one["id"] for one in first["items"] + second["items"]] == whole[:4]


def test_no_token_is_in_logs_exports_or_audit_events(api, as_, held, caplog):
    with caplog.at_level(logging.DEBUG):
        made = submit(api, as_("ann"), "quiet").json()["id"]
        api.get("/studies", headers={"Authorization": f"Bearer {held['ann']}x"})
        export = api.get(f"/studies/{made}/export", headers=as_("eve")).text
        events = api.get("/audit", headers=as_("root")).text
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "POST /studies 201" in logged
    for value in held.values():
        for place in (logged, export, events):
            assert value not in place


def test_metrics_need_a_token_that_reads(api, as_):
    assert_problem(api.get("/metrics"), 401)
    assert "mudman_database_up" in api.get("/metrics", headers=as_("eve")).text
