"""What happened to a study, over HTTP and by the command."""

import json

import pytest
from problem_documents import assert_problem
from test_cli_comparisons import address, mudman  # noqa: F401 - fixtures

from service.store import events


@pytest.fixture(scope="module")
def study(api, database) -> str:
    """Created, and 1,204 events since."""
    study_id = api.post("/studies", json={"preset": "quickstart", "overrides": {"name": "eventful"}}).json()["id"]
    with database.begin() as session:
        for number in range(1204):
            events.append(session, study_id, "trial_finished", {"ordinal": number})
    return study_id


def test_pages_follow_each_other_without_gaps(api, study):
    first = api.get(f"/studies/{study}/events", params={"limit": 1000}).json()
    assert [event["sequence"] for event in first["items"]] == list(range(1, 1001))
    assert first["next"] == 1000
    created, finished = first["items"][:2]
    assert (created["kind"], created["data"]) == ("created", {"name": "eventful", "owner": "default"})
    assert (finished["kind"], finished["data"]) == ("trial_finished", {"ordinal": 0})
    assert created["at"] <= finished["at"]
    second = api.get(f"/studies/{study}/events", params={"limit": 1000, "after": 1000}).json()
    assert [event["sequence"] for event in second["items"]] == list(range(1001, 1206))
    assert second["next"] is None
    assert len(api.get(f"/studies/{study}/events").json()["items"]) == 100
    assert api.get(f"/studies/{study}/events", params={"after": 1205}).json() == {"items": [], "next": None}
    exactly = api.get(f"/studies/{study}/events", params={"after": 1105, "limit": 100}).json()
    assert (len(exactly["items"]), exactly["next"]) == (100, None)


def test_of_no_study_there_are_none(api):
    for unknown in ("st_0123456789abcdef", "nothing"):
        assert_problem(api.get(f"/studies/{unknown}/events"), 404, "unknown-study")


@pytest.mark.parametrize(
    ("asked", "name"),
    [("after=-1", "after"), ("after=x", "after"), ("limit=1001", "limit"), ("limit=0", "limit"), ("from=3", "from")],
)
def test_a_wrong_place_is_422(api, study, asked, name):
    [fault] = assert_problem(api.get(f"/studies/{study}/events?{asked}"), 422, "invalid-request")["errors"]
    assert fault["path"] == name


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("text/event-stream, application/json;q=0.5", 200),
        ("Application/*", 200),
        ("text/html", 406),
    ],
)
def test_a_list_is_answered_where_it_is_taken(api, study, accept, status):
    answer = api.get(f"/studies/{study}/events", headers={"Accept": accept})
    assert answer.status_code == status
    if status == 406:
        assert "application/json" in assert_problem(answer, 406, "not-acceptable")["detail"]


def test_the_command_lists_all_of_them(mudman, study):  # noqa: F811
    code, said = mudman("events", "eventful", "--json")
    assert (code, [event["sequence"] for event in json.loads(said)]) == (0, list(range(1, 1206)))
    code, said = mudman("events", study, "--after", "1204")
    assert code == 0
    title, row = said.splitlines()
    assert title.split() == ["number", "at", "(UTC)", "what", "more"]
    assert (row.split()[0], row.split()[3:]) == ("1205", ["trial_finished", '{"ordinal":', "1203}"])
    assert mudman("events", "eventful", "--after", "1205") == (0, "nothing happened after 1205\n")
    assert mudman("events", "uneventful")[0] == 2
