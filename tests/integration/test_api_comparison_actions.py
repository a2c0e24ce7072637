"""What is done to a comparison as one, and what is added to it, over HTTP; rows are written as the runner does."""

import pytest
from problem_documents import assert_problem
from sqlalchemy import select
from test_api_comparisons import TWO, post, stored
from test_api_trials import finish, result

from mudman.results import Outcome
from service.routes.figures import Name
from service.store import studies
from service.store.states import Action
from service.store.tables import OutcomeCount, Study

RUN, COMPLETE = (Action.PREPARE, Action.RUN), (Action.PREPARE, Action.RUN, Action.COMPLETE)


def change(database, study_id: str, *actions: Action) -> None:
    with database.begin() as session:
        for action in actions:
            studies.change_state(session, study_id, action)


def states(comparison: dict) -> dict[str, str]:
    return {one["variant"]: one["state"] for one in comparison["variants"]}


def changed(comparison: dict) -> set[str]:
    return {one["variant"] for one in comparison["changes"] if one["changed"]}


@pytest.fixture
def made(api, request) -> dict:
    return post(api, request.node.name).json()


@pytest.fixture
def ids(made) -> dict[str, str]:
    return {one["variant"]: one["study"] for one in made["variants"]}


def test_pause_and_resume_what_runs_and_say_what_does_not(api, database, made, ids):
    here = made["links"]["self"]
    refused = assert_problem(api.post(f"{here}/pause"), 409, "refused-transition")
    assert refused["state"] == "queued"
    assert [one["variant"] for one in refused["studies"]] == ["sign", "no_mask", "baseline"]
    change(database, ids["sign"], *RUN)
    change(database, ids["baseline"], *COMPLETE)
    paused = api.post(f"{here}/pause").json()
    assert states(paused) == {"sign": "paused", "no_mask": "queued", "baseline": "completed"}
    assert changed(paused) == {"sign"}
    [left] = [one for one in paused["changes"] if one["variant"] == "no_mask"]
    assert "is queued and cannot be paused before it runs: it will start" in left["reason"]
    assert f"mudman cancel {ids['no_mask']}" in left["reason"]
    resumed = api.post(f"{here}/resume").json()
    assert (states(resumed)["sign"], changed(resumed)) == ("running", {"sign"})
    assert_problem(api.post(f"{here}/resume"), 409, "refused-transition")


def test_cancel_leaves_what_has_finished(api, database, made, ids):
    change(database, ids["baseline"], *COMPLETE)
    cancelled = api.post(f"{made['links']['self']}/cancel").json()
    assert states(cancelled) == {"sign": "cancelled", "no_mask": "cancelled", "baseline": "completed"}
    assert changed(cancelled) == {"sign", "no_mask"}


def test_extend_each_that_unlearns_to_one_total(api, database, made, ids):
    here = f"{made['links']['self']}/extend"
    assert_problem(api.post(here, json={"trials": 20}), 409, "refused-transition")
    for study_id in ids.values():
        change(database, study_id, *COMPLETE)
    [fault] = assert_problem(api.post(here, json={"trials": 5}), 422, "invalid-request")["errors"]
    assert fault["pointer"] == "/trials"
    api.post(f"/studies/{ids['no_mask']}/extend", json={"trials": 30})
    extended = api.post(here, json={"trials": 20}).json()
    assert changed(extended) == {"sign"}
    assert states(extended) == {"sign": "queued", "no_mask": "queued", "baseline": "completed"}
    assert [one["progress"]["budget"] for one in extended["variants"]] == [20, 30, 1]
    again = api.post(here, json={"trials": 20})
    assert (again.status_code, changed(again.json())) == (200, set()), "it may be repeated"


def test_retry_failed_trials_and_studies_that_failed_before_any(api, database, made, ids):
    here = f"{made['links']['self']}/retry"
    change(database, ids["sign"], *COMPLETE)
    finish(database, ids["sign"], 0, result(Outcome.ERROR))
    change(database, ids["no_mask"], Action.PREPARE, Action.FAIL)
    change(database, ids["baseline"], *COMPLETE)
    refused = assert_problem(api.post(here, json={"outcomes": ["lust"]}), 422, "invalid-request")
    assert refused["errors"][0]["pointer"] == "/outcomes/0"
    retried = api.post(here).json()
    assert states(retried) == {"sign": "queued", "no_mask": "queued", "baseline": "completed"}
    assert changed(retried) == {"sign", "no_mask"}
    [left] = [one for one in retried["changes"] if not one["changed"]]
    assert "there is nothing to retry" in left["reason"]


def test_a_variant_is_added_to_the_same_base_beside_the_same_baseline(api, database, made, ids):
    here = f"{made['links']['self']}/variants"
    answer = api.post(here, json={"long": {"budget.unlearn_passes": 150}})
    assert answer.status_code == 201
    found = answer.json()
    assert [one["variant"] for one in found["variants"]] == ["sign", "no_mask", "long", "baseline"]
    assert found["document"]["variants"] == TWO | {"long": {"budget.unlearn_passes": 150}}
    assert {one["variant"]: one["study"] for one in found["variants"]}.items() >= ids.items(), "nothing else is new"
    rows = stored(database, made["id"])
    assert rows["long"].spec["budget"]["unlearn_passes"] == 150
    assert rows["long"].group_id != rows["sign"].group_id, "it waits for none"
    again = api.post(here, json={"long": {"budget.unlearn_passes": 150}})
    assert (again.status_code, again.json()) == (200, found)
    taken = assert_problem(api.post(here, json={"long": {}}), 409, "variant-taken")
    assert (taken["variant"], taken["existing"]) == ("long", {"budget.unlearn_passes": 150})
    # What was posted first is another comparison now; with the variant it is the same.
    whole = TWO | {"long": {"budget.unlearn_passes": 150}}
    assert post(api, made["name"]).status_code == 409
    assert post(api, made["name"], whole).status_code == 200
    table = api.get(made["links"]["table"]).json()
    assert [row["variant"] for row in table["rows"]] == ["sign", "no_mask", "long"]


def test_what_is_added_is_validated_with_the_rest_and_stored_whole_or_not(api, database, made):
    here = f"{made['links']['self']}/variants"
    wrong = {"good": {"budget.trials": 3}, "bad": {"method.mask": "nope"}, "lost": {"model.id": "tiny-lama"}}
    found = assert_problem(api.post(here, json=wrong), 422, "invalid-spec")["errors"]
    assert [(one["pointer"], one["path"]) for one in found] == [("/bad/method.mask", "bad.method.mask")]
    found = assert_problem(api.post(here, json={"lost": wrong["lost"]}), 422)["errors"]
    assert [one["pointer"] for one in found] == ["/lost/model.id"]
    for body in ({}, [], {"a/b": {}}, {"baseline": {}}, {"x": 1}):
        assert_problem(api.post(here, json=body), 422, "invalid-spec")
    api.post("/studies", json=_study(made["name"]))
    taken = assert_problem(api.post(here, json={"fine": {}, "there": {}}), 409, "name-taken")
    assert taken["existing"].startswith("/studies/")
    with database.begin() as session:
        names = session.scalars(select(Study.name).where(Study.comparison_id == made["id"])).all()
    assert set(names) == {f"{made['name']}/{variant}" for variant in ("sign", "no_mask", "baseline")}
    assert_problem(api.post("/comparisons/cp_0123456789abcdef/variants", json={"a": {}}), 404, "unknown-comparison")


def _study(comparison: str) -> dict:
    return {"preset": "quickstart", "overrides": {"name": f"{comparison}/there"}}


def test_the_progress_of_the_whole(api, database, made, ids):
    progress = {"trials": 0, "budget": 21, "running": 0, "finished": 0, "studies": 3, "eta_seconds": None}
    assert made["progress"] == progress
    change(database, ids["baseline"], *COMPLETE)
    change(database, ids["sign"], *RUN)
    for ordinal in range(4):
        finish(database, ids["sign"], ordinal, result(Outcome.VALID, 3.0))
    with database.begin() as session:
        session.get_one(OutcomeCount, (ids["sign"], "valid")).seconds = 40.0
        places = studies.get(session, ids["sign"]).spec["resources"]["max_concurrent"]
    found = api.get(made["links"]["self"]).json()["progress"]
    assert (found["trials"], found["finished"]) == (4, 1)
    # Sixteen trials are left, of ten seconds each as far as is known, in one group.
    assert found["eta_seconds"] == pytest.approx(160 / places)


def test_links_lead_to_what_there_is(api, made, ids):
    study = api.get(f"/studies/{ids['sign']}").json()["links"]
    assert set(study["figures"]) == set(Name), "each figure of a study"
    for address in (*study["figures"].values(), *made["links"]["figures"].values()):
        assert_problem(api.get(address), 409, "no-figure")
    for links in (study, made["links"]):
        for name, address in links.items():
            if isinstance(address, str) and name != "best":
                assert api.get(address).status_code == 200, address
