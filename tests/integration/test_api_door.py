"""What stands before every route: names, loopback, limits, headers, signing in from a browser."""

import re

import httpx
import pytest
from fastapi.testclient import TestClient
from guarded import guarded, shown, token
from problem_documents import assert_problem
from served import served
from test_api_access import operations

from service.access import cookie
from service.access.exposure import AccessIsOff, check_listening
from service.app import create_app
from service.store.settings import Settings
from service.web.headers import HEADERS


@pytest.fixture(scope="module")
def door(database):
    with guarded(database, hosts=[]) as client:
        yield client


@pytest.fixture(scope="module")
def ann(database) -> str:
    return token(database, "ann")


# -------------------------------------------------------------------------------------------------- without tokens


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_needs_no_tokens(host):
    check_listening(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org", "128.0.0.1"])
def test_no_other_address_is_listened_on_without_them(host):
    with pytest.raises(AccessIsOff, match="MUDMAN_ACCESS=tokens"):
        check_listening(Settings(host=host))
    check_listening(Settings(host=host, access="tokens"))


@pytest.mark.parametrize(
    "named", ["127.0.0.1", "127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:80", "testserver"]
)
def test_names_of_this_machine_are_answered(api, named):
    assert api.get("/presets", headers={"Host": named}).status_code == 200


@pytest.mark.parametrize(
    "named",
    [
        "rebound.example:8080",
        "127.0.0.1.example",
        "localhost.example",
        "",
        "[::2]",
        "[",
        "2130706433.x",
        "a@localhost.x",
    ],
)
@pytest.mark.parametrize("path", ["/studies", "/healthz", "/ui/static/pages.js", "/nothing"])
def test_a_name_that_somebody_pointed_here_is_not(api, named, path):
    assert_problem(api.get(path, headers={"Host": named}), 403, "wrong-host")


def test_with_tokens_names_are_limited_where_they_are_given(database, door, ann):
    assert door.get("/studies", headers=shown(ann) | {"Host": "sweeps.example"}).status_code == 200
    with guarded(database, hosts=["sweeps.example"]) as strict:
        assert strict.get("/studies", headers=shown(ann) | {"Host": "Sweeps.example:443"}).status_code == 200
        refused = strict.get("/studies", headers=shown(ann) | {"Host": "other.example"})
        assert '["sweeps.example.org"]' in assert_problem(refused, 403, "wrong-host")["detail"]


@pytest.mark.parametrize("named", ["10.0.0.7:8080", "[fd00::7]:8080", "other.example"])
def test_probes_and_prometheus_come_by_the_address_of_one_process(database, ann, named):
    with guarded(database, hosts=["sweeps.example"]) as strict:
        assert strict.get("/healthz", headers={"Host": named}).status_code == 200
        assert strict.get("/readyz", headers={"Host": named}).json()["checks"]["database"] == "ok"
        assert_problem(strict.get("/metrics", headers={"Host": named}), 401)
        assert "mudman_database_up" in strict.get("/metrics", headers=shown(ann) | {"Host": named}).text
        for path in ("/studies", "/metrics/", "/ui/sign-in", "/openapi.json"):
            assert_problem(strict.get(path, headers=shown(ann) | {"Host": named}), 403, "wrong-host")


@pytest.mark.parametrize(
    "named", ["x/healthz?", "x/ui/static/a?", "x/healthz#", "/healthz?", "x:80/healthz?", "a b", "x@y"]
)
def test_a_host_that_reads_as_an_address_opens_nothing(door, named):
    """Frameworks put addresses together from ``Host`` and path: what is open may not be told by those."""
    for path in ("/studies", "/tokens", "/dashboard/"):
        assert_problem(door.get(path, headers={"Host": named}), 403, "wrong-host")


def test_an_application_that_another_server_exposes_answers_over_loopback_only(database):
    app = create_app(Settings(database_url=database.url, hosts=["10.0.0.1"]))
    with TestClient(app, base_url="http://10.0.0.1") as api:
        for host in ("localhost", "10.0.0.1"):
            assert_problem(api.get("/studies", headers={"Host": host}), 403, "not-local")
    with TestClient(app, base_url="http://127.0.0.1") as api:
        assert api.get("/studies").status_code == 200


# ---------------------------------------------------------------------------------------------------------- limits


def test_too_many_requests_are_told_when_to_come_back(database, ann):
    other = token(database, "bob")
    with guarded(database, requests_per_minute=60) as api:
        answers = [api.get("/presets", headers=shown(ann)) for _ in range(14)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert answers[0].status_code == 200
        assert_problem(answers[-1], 429, "too-many-requests")
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert api.get("/presets", headers=shown(other)).status_code == 200


def test_an_address_that_guesses_is_not_looked_at_for_long(database, ann):
    with guarded(database, failures_per_minute=5) as api:
        wrong = [api.post("/studies", headers=shown(ann + "x")).status_code for _ in range(6)]
        wrong += [sign_in(api, ann + "x").status_code for _ in range(2)]
        assert wrong == [401] * 5 + [429] * 3
        assert api.get("/studies", headers=shown(ann)).status_code == 200


def test_nobody_fills_the_audit_table_from_outside(database, ann):
    root = shown(token(database, "root", "admin"))
    with guarded(database, failures_per_minute=3, hosts=["testserver"]) as api:
        before = api.get("/audit", headers=root).json()["items"]
        for _ in range(6):
            api.post("/studies", headers=shown(ann + "x"))
            api.post("/studies", headers={"Host": "other.example"})
            api.get("/studies", headers={"Host": "other.example"})
            api.post("/ui/sign-out", headers=SAME, follow_redirects=False)
        after = api.get("/audit?limit=100", headers=root).json()["items"]
    assert [one["status"] for one in after[: len(after) - len(before)]] == [401] * 3


def test_signing_in_is_on_record(fresh, database, ann):
    assert sign_in(fresh, ann).status_code == 303
    fresh.cookies.clear()
    root = shown(token(database, "root", "admin"))
    [newest] = fresh.get("/audit?limit=1", headers=root).json()["items"]
    assert (newest["method"], newest["path"], newest["owner"], newest["status"]) == ("POST", "/ui/sign-in", "ann", 303)


# --------------------------------------------------------------------------------------------------------- streams


@pytest.fixture(scope="module")
def address(database):
    """As a real server: streams do not end in a test client."""
    app = create_app(Settings(database_url=database.url, access="tokens", max_streams=2, max_requests=1))
    with served(app) as address:
        yield address


def test_a_stream_ends_with_its_token_and_counts_while_it_lasts(address, database):
    with httpx.Client(base_url=address, timeout=30) as http:
        leo, root = shown(token(database, "leo")), shown(token(database, "root", "admin"))
        body = {"preset": "quickstart", "overrides": {"name": "streamed"}}
        path = f"/studies/{http.post('/studies', json=body, headers=leo).json()['id']}/events"
        [his] = http.get("/tokens?owner=leo", headers=root).json()["items"]
        listening = {"method": "GET", "url": path, "headers": leo | {"Accept": "text/event-stream"}}
        with http.stream(**listening) as first, http.stream(**listening) as second:
            lines = first.iter_lines()
            assert next(line for line in lines if line.startswith("data:"))
            assert second.status_code == 200
            assert_problem(http.request(**listening), 429, "too-many-requests")
            assert http.get(path, headers=root).status_code == 200
            assert http.delete(f"/tokens/{his['id']}", headers=root).status_code == 200
            assert "deleted" not in "".join(lines)  # it comes to an end
        assert_problem(http.request(**listening), 401)


# --------------------------------------------------------------------------------------------------------- headers


def test_every_answer_has_the_headers(door, ann):
    paths = ["/", "/studies", "/nothing", "/ui/sign-in", "/ui/static/pages.css", "/healthz", "/openapi.json", "/tokens"]
    for path in paths:
        for who in ({}, shown(ann)):
            answer = door.get(path, headers=who, follow_redirects=False)
            for name, value in HEADERS.items():
                assert answer.headers[name] == value, path
            if path not in ("/ui/static/pages.css",):
                assert answer.headers["cache-control"] in ("private, no-cache", "no-cache", "no-store"), path


def test_an_error_of_ours_has_them_too(database, ann, monkeypatch):
    with guarded(database) as api:
        monkeypatch.setattr("service.routes.health.leases.any_seen", None)
        answer = api.get("/readyz")
    assert_problem(answer, 500, "internal")
    assert all(answer.headers[name] == value for name, value in HEADERS.items())


# -------------------------------------------------------------------------------------------------------- browsers

PAGE = {"Accept": "text/html,application/xhtml+xml"}
SAME = {"Sec-Fetch-Site": "same-origin"}


def sign_in(api, value: str, wanted: str = "/"):
    return api.post("/ui/sign-in", data={"token": value, "next": wanted}, headers=SAME, follow_redirects=False)


@pytest.fixture
def fresh(door):
    door.cookies.clear()
    yield door
    door.cookies.clear()


def test_a_page_leads_to_the_form_and_back(fresh, ann):
    answer = fresh.get("/ui/cluster?x=1&y=2", headers=PAGE, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in?next=%2Fui%2Fcluster%3Fx%3D1%26y%3D2")
    form = fresh.get(answer.headers["location"])
    assert 'value="/ui/cluster?x=1&amp;y=2"' in form.text
    done = sign_in(fresh, ann, "/ui/cluster")
    assert (done.status_code, done.headers["location"]) == (303, "/ui/cluster")
    kept = done.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(kept.split("; "))
    assert "Secure" not in kept
    assert 86_000 < int(re.search(r"Max-Age=(\d+)", kept)[1]) <= 86_400
    page = fresh.get("/ui/cluster", headers=PAGE)
    assert "ann (submit)" in page.text
    assert ann not in page.text
    gone = fresh.post("/ui/sign-out", headers=SAME, follow_redirects=False)
    assert (gone.status_code, gone.headers["location"]) == (303, "/ui/sign-in")
    assert fresh.get("/ui/cluster", headers=PAGE, follow_redirects=False).status_code == 303


def test_over_tls_the_cookie_stays_there(database, ann):
    app = create_app(Settings(database_url=database.url, access="tokens"))
    with TestClient(app, base_url="https://testserver") as api:
        assert "Secure" in sign_in(api, ann).headers["set-cookie"]


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/\r\nX: y", "javascript:0"]
)
def test_the_form_leads_nowhere_else(fresh, ann, wanted):
    assert sign_in(fresh, ann, wanted).headers["location"] == "/"
    assert "evil" not in fresh.get("/ui/sign-in", params={"next": wanted}).text


@pytest.mark.parametrize("value", ["", "nonsense", "mudman_" + "A" * 43, "é", "\0"])
def test_a_wrong_token_is_said_to_be_one(fresh, value):
    answer = sign_in(fresh, value)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_form_of_any_size_is_refused(fresh):
    assert fresh.post("/ui/sign-in", content=b"token=" + b"x" * 100_000, headers=SAME).status_code == 413


def test_another_sites_page_does_not_sign_anybody_in(fresh, ann):
    answer = fresh.post("/ui/sign-in", data={"token": ann}, headers={"Sec-Fetch-Site": "cross-site"})
    assert_problem(answer, 403, "cross-site")


def test_the_cookie_changes_things_only_for_pages_of_this_address(fresh, database):
    eve = token(database, "eve")
    fresh.cookies.set(cookie.NAME, eve)
    body = {"preset": "quickstart", "overrides": {"name": "by cookie"}}
    assert_problem(fresh.post("/studies", json=body), 403, "cross-site")
    for site in ("cross-site", "same-site"):
        assert_problem(fresh.post("/studies", json=body, headers={"Sec-Fetch-Site": site}), 403, "cross-site")
    assert_problem(fresh.post("/studies", json=body, headers={"Origin": "http://evil.example"}), 403, "cross-site")
    assert fresh.post("/studies", json=body, headers={"Origin": "http://testserver"}).status_code == 201
    assert fresh.post("/studies", json=body, headers=SAME).status_code == 200


def test_no_route_takes_a_token_in_its_address(fresh, ann):
    for name in ("token", "access_token"):
        assert fresh.get("/presets", params={name: ann}).status_code == 401


def test_every_operation_is_limited_in_what_it_says(door):
    for _, path, operation in operations(door):
        assert "Retry-After" in operation["responses"]["429"]["headers"], path
