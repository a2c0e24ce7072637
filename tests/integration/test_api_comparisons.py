"""The contract of ``/comparisons`` over HTTP, against a real database. Rows are written as the runner writes them."""

import json

from problem_documents import assert_problem
from sqlalchemy import inspect, select
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
from service.store import pages
from service.store.tables import Comparison, Group, Study

QUICKSTART = presets.load("quickstart")
TWO = {"sign": {}, "no_mask": {"method.mask": "none"}}


def document(name: str, variants: dict | None = None, **changes):
    return QUICKSTART | {"name": name, "variants": variants or TWO} | changes


def post(api, name: str, variants: dict | None = None, **changes):
    return api.post("/comparisons", json=document(name, variants, **changes))


def stored(database, comparison_id: str) -> dict[str, Study]:
    with database.begin() as session:
        rows = session.scalars(select(Study).where(Study.comparison_id == comparison_id))
        return {study.variant: study for study in rows}


def test_create_one_study_each_in_one_group(api, database):
    answer = post(api, "masks", labels={"team": "red"}, priority=2)
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/comparisons/{made['id']}" == made["links"]["self"]
    assert (made["name"], made["state"], made["labels"]) == ("masks", "queued", {"team": "red"})
    assert [one["variant"] for one in made["variants"]] == ["sign", "no_mask", "baseline"]
    assert [one["progress"]["budget"] for one in made["variants"]] == [10, 10, 1]
    assert api.get(made["links"]["self"]).json() == made

    rows = stored(database, made["id"])
    assert {study.name for study in rows.values()} == {"masks/sign", "masks/no_mask", "masks/baseline"}
    [group] = {study.group_id for study in rows.values()}
    with database.begin() as session:
        assert session.get_one(Group, group).priority == 2
    study = api.get(made["variants"][1]["link"]).json()
    assert study["spec"]["method"]["mask"] == {"type": "none"}
    assert (study["state"], study["name"]) == ("queued", "masks/no_mask")
    assert study["links"]["comparison"] == made["links"]["self"]


def test_only_what_model_corpora_resources_and_priority_allow_is_one_group(api, database):
    others = {
        "model": {"model.id": "tiny-neox"},
        "corpus": {"retain.corpus": "wikitext"},
        "shape": {"batch.size": 4},
        "split": {"seeds.data": 7},
        "place": {"resources.cpus": 2},
        "urgent": {"priority": 3},
        "attack": {"attack.rate": 0.02},
        "seed": {"seeds.trial": 7},
    }
    made = post(api, "groups", {"base": {}, **others}).json()
    groups = {variant: study.group_id for variant, study in stored(database, made["id"]).items()}
    assert groups["base"] == groups["attack"] == groups["seed"] == groups["baseline"]
    assert len(set(groups.values())) == 7
    with database.begin() as session:
        assert [session.get_one(Group, groups[name]).priority for name in ("base", "urgent")] == [0, 3]


def test_from_a_preset_that_is_a_comparison(api):
    name = next(name for name in presets.names() if presets.about(name).kind == "comparison" and "small" in name)
    overrides = {"name": "from-preset", "budget.trials": 3}
    made = api.post("/comparisons", json={"preset": name, "overrides": overrides})
    assert made.status_code == 201, made.text
    assert made.json()["preset"] == name
    shown = [one["variant"] for one in made.json()["variants"]]
    assert shown == [*presets.about(name).variants, "baseline"]

    second = presets.about(name).variants[1]
    one = api.post("/studies", json={"preset": name, "variant": second, "overrides": {"name": "alone"}})
    assert (one.status_code, one.json()["name"]) == (201, "alone")
    first = api.post("/studies?dry_run=true", json={"preset": name}).json()
    assert first["spec"]["name"].endswith(f"/{presets.about(name).variants[0]}")
    unknown = api.post("/studies", json={"preset": name, "variant": "nope"})
    [error] = assert_problem(unknown, 422, "invalid-spec")["errors"]
    assert (error["path"], error["pointer"]) == ("variant", "/variant")
    wrong = {"preset": name, "overrides": {"variants.mudman": {"method.mask": "nope"}}}
    [error] = assert_problem(api.post("/comparisons", json=wrong), 422)["errors"]
    assert error["pointer"] == "/overrides/variants.mudman/method.mask"


def test_in_yaml_and_what_is_no_comparison(api):
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in document("in-yaml").items())
    answer = api.post("/comparisons", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    [error] = assert_problem(api.post("/comparisons", json=QUICKSTART), 422, "invalid-spec")["errors"]
    assert error["path"] == "variants"
    [error] = assert_problem(api.post("/comparisons", json={"preset": "quickstart"}), 422, "invalid-spec")["errors"]
    assert error["pointer"] == "/preset"
    assert "/studies" in error["remedy"]
    [error] = assert_problem(api.post("/studies", json=document("a-study")), 422, "invalid-spec")["errors"]
    assert error["path"] == "variants"
    assert "/comparisons" in error["remedy"]


def test_every_fault_of_every_variant(api, database):
    variants = {"a": {}, "b": {"method.mask": "nope"}, "c": {"budget": {"trials": 0}}, "d": {"model.id": "tiny-lama"}}
    problem = assert_problem(post(api, "wrong", variants), 422, "invalid-spec")
    assert [error["pointer"] for error in problem["errors"]] == [
        "/variants/b/method.mask",
        "/variants/c/budget/trials",
    ]
    problem = assert_problem(post(api, "wrong", {"a": {}, "d": variants["d"]}), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/variants/d/model.id"]
    problem = assert_problem(post(api, "wrong", model={"id": "tiny-lama"}), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/model/id"]
    with database.begin() as session:
        assert session.scalar(select(Comparison).where(Comparison.name == "wrong")) is None


def test_dry_run(api, database):
    answer = api.post("/comparisons?dry_run=true", json=document("dry"))
    dry = answer.json()
    # Ten trials of 100 and 40 passes and one attack for each of two variants; the baseline is two attacks.
    assert (dry["valid"], dry["trials"], dry["passes_total"]) == (True, 21, 2 * (10 * 140 + 40) + 2 * 40)
    assert list(dry["variants"]) == ["sign", "no_mask", "baseline"]
    with database.begin() as session:
        assert session.scalar(select(Study).where(Study.name.startswith("dry/"))) is None


def test_the_same_again_and_another_under_the_name(api):
    first = post(api, "again").json()
    reordered = dict(reversed(TWO.items()))
    answer = post(api, "again", reordered)
    assert (answer.status_code, answer.json()) == (200, first)

    problem = assert_problem(post(api, "again", TWO | {"long": {}}, priority=1), 409, "name-taken")
    assert problem["existing"] == first["links"]["self"]
    assert problem["difference"] == {
        "priority": {"existing": 0, "given": 1},
        "variants.long": {"existing": False, "given": True},
    }
    changed = {"sign": {}, "no_mask": {"method.mask": "none", "budget.trials": 4}}
    problem = assert_problem(post(api, "again", changed), 409, "name-taken")
    assert problem["difference"] == {"variants.no_mask.budget.trials": {"existing": 10, "given": 4}}


def test_a_study_has_the_name(api, database):
    there = api.post("/studies", json=QUICKSTART | {"name": "taken/no_mask"}).json()
    problem = assert_problem(post(api, "taken"), 409, "name-taken")
    assert problem["existing"] == there["links"]["self"]
    with database.begin() as session:
        assert session.scalar(select(Comparison).where(Comparison.name == "taken")) is None
        assert session.scalar(select(Study).where(Study.name == "taken/sign")) is None, "all or none"


def test_idempotency_keys(api):
    def send(path: str, body: dict):
        return api.post(path, json=body, headers={"Idempotency-Key": "once"})

    first = send("/comparisons", document("keyed"))
    api.post(f"/comparisons/{first.json()['id']}/cancel")
    again = send("/comparisons", document("keyed"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["state"] == "cancelled", "a replay runs nothing again"
    assert_problem(send("/comparisons", document("keyed-otherwise")), 422, "idempotency-key-reused")
    assert_problem(send("/studies", QUICKSTART | {"name": "keyed-study"}), 422, "idempotency-key-reused")


def test_cancel_and_run_again(api):
    made = post(api, "to-cancel").json()
    api.post(f"{made['variants'][0]['link']}/cancel")
    assert api.get(made["links"]["self"]).json()["state"] == "running"
    answer = api.post(f"/comparisons/{made['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert {one["state"] for one in answer.json()["variants"]} == {"cancelled"}
    refused = assert_problem(api.post(f"/comparisons/{made['id']}/cancel"), 409, "refused-transition")
    assert refused["state"] == "cancelled"
    again = post(api, "to-cancel")
    assert (again.status_code, again.json()["state"]) == (200, "queued")


def test_list_in_pages(api):
    made = [post(api, f"Page_{n}", owner="pager", labels={"n": str(n)}).json()["id"] for n in range(3)]
    page = api.get("/comparisons", params={"owner": "pager", "limit": 2}).json()
    assert [one["id"] for one in page["items"]] == made[:0:-1]
    assert page["items"][0]["progress"] == {"trials": 0, "budget": 21}
    assert page["items"][0]["studies"] == 3
    rest = api.get("/comparisons", params={"owner": "pager", "limit": 2, "cursor": page["next"]}).json()
    assert ([one["id"] for one in rest["items"]], rest["next"]) == (made[:1], None)
    found = api.get("/comparisons?owner=pager&label=n:1&text=PAGE").json()["items"]
    assert [one["id"] for one in found] == made[1:2]
    assert_problem(api.get("/comparisons?cursor=x"), 422, "invalid-cursor")


def test_unknown_ones(api):
    for path in ("/comparisons/cp_nothing", "/comparisons/st_0123456789abcdef/table"):
        assert_problem(api.get(path), 404, "unknown-comparison")
    made = post(api, "known").json()
    assert_problem(api.get(f"{made['links']['table']}?reference=nope"), 404, "unknown-variant")
    assert_problem(api.get(f"{made['links']['table']}?format=pdf"), 422, "invalid-request")


def test_lists_leave_out_what_is_large(api, database):
    study = api.post("/studies", json=QUICKSTART | {"name": "recorded"}).json()
    losses = {"attacked": [[1.5, 2.5]]}
    finish(database, study["id"], 0, result(Outcome.VALID, 1.0, token_losses=losses, overrun=0.1))
    [listed] = api.get(study["links"]["trials"]).json()["items"]
    assert listed.keys().isdisjoint({"result", "trace", "token_losses"})
    with database.begin() as session:
        [row], _ = pages.trials(session, study["id"], None, 10)
        assert {"result", "log"} <= inspect(row).unloaded, "the database keeps them"
    assert (listed["overrun"], listed["seconds"]) == (0.1, 2.5)
    assert api.get(f"{study['links']['trials']}/0").json()["result"]["token_losses"] == losses
    assert api.get(study["links"]["best"]).json()["result"].keys().isdisjoint({"trace", "token_losses"})
