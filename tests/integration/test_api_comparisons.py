"""The contract of ``/comparisons`` over HTTP, against a real database. Rows are written as the runner writes them."""

import csv
import io
import json
import math

import pytest
from problem_documents import assert_problem
from sqlalchemy import select
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
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


def test_only_what_model_corpora_and_resources_allow_is_one_group(api, database):
    others = {
        "model": {"model.id": "tiny-neox"},
        "corpus": {"retain.corpus": "wikitext"},
        "shape": {"batch.size": 4},
        "split": {"seeds.data": 7},
        "place": {"resources.cpus": 2},
        "attack": {"attack.rate": 0.02},
        "seed": {"seeds.trial": 7},
    }
    made = post(api, "groups", {"base": {}, **others}).json()
    groups = {variant: study.group_id for variant, study in stored(database, made["id"]).items()}
    assert groups["base"] == groups["attack"] == groups["seed"] == groups["baseline"]
    assert len(set(groups.values())) == 6


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
    assert_problem(api.post("/studies", json={"preset": name, "variant": "nope"}), 422, "invalid-spec")
    wrong = {"preset": name, "overrides": {"variants.mudman": {"method.mask": "nope"}}}
    [error] = assert_problem(api.post("/comparisons", json=wrong), 422)["errors"]
    assert error["pointer"] == "/overrides/variants.mudman/method.mask"


def test_in_yaml_and_what_is_no_comparison(api):
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in document("in-yaml").items())
    answer = api.post("/comparisons", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    [error] = assert_problem(api.post("/comparisons", json=QUICKSTART), 422, "invalid-spec")["errors"]
    assert error["path"] == "variants"
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
    assert_problem(api.post(f"/comparisons/{made['id']}/cancel"), 409, "refused-transition")
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


@pytest.fixture(scope="module")
def tried(api, database) -> str:
    """Values 9, 3, 5 and 2.5, 3.5 with the last two counting, one variant without a valid trial, a baseline of 2."""
    variants = {"sign": {}, "no_mask": {"method.mask": "none"}, "hot": {"method.unlearning_rate": 100.0}}
    changes = {"statistics": {"last": 2}, "resources": {"gpus": 0.5, "cpus": 2}}
    made = post(api, "tried", variants, **changes).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    passes = {"passes_booked": 140, "passes_made": 120}
    for ordinal, value in enumerate((9.0, 3.0, 5.0)):
        finish(database, ids["sign"], ordinal, result(Outcome.VALID, value, **passes))
    finish(database, ids["no_mask"], 0, result(Outcome.VALID, 2.5, **passes))
    finish(database, ids["no_mask"], 1, result(Outcome.OVER_RETAIN_BUDGET, **passes))
    finish(database, ids["no_mask"], 2, result(Outcome.VALID, 3.5, **passes))
    finish(database, ids["hot"], 0, result(Outcome.DIVERGED, **passes))
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 2.0, **passes))
    return made["links"]["table"]


def test_table(api, tried):
    table = api.get(tried).json()
    assert (table["metric"], table["direction"], table["reference"]) == ("forget_loss", "maximize", "sign")
    sign, no_mask, hot = table["rows"]
    assert [row["variant"] for row in table["rows"]] == ["sign", "no_mask", "hot"]
    # 3 and 5: mean 4, squared deviations 2; ddof 1 over root 2, ddof 0 over root 2.
    assert sign["result"] == {
        "n": 2,
        "last": 2,
        "mean": 4.0,
        "standard_error": pytest.approx(1.0),
        "standard_error_published": pytest.approx(1 / math.sqrt(2)),
        "median": 4.0,
        "best": 9.0,
    }
    assert (sign["to_reference"], sign["per_cent_of_reference"], sign["verdict"]) == (None, 100.0, "reference")
    assert sign["to_baseline"] == {"value": 2.0, "standard_error": pytest.approx(1.0)}
    # 2.5 and 3.5: mean 3, standard error 1/2. To 4: √(1 + 1/4). Its gain of 1 is half of 2.
    assert no_mask["to_reference"] == {"value": -1.0, "standard_error": pytest.approx(math.sqrt(1.25))}
    assert (no_mask["verdict"], no_mask["reference_lead"]) == ("unresolved", pytest.approx(100 / 3))
    assert no_mask["to_baseline"] == {"value": 1.0, "standard_error": pytest.approx(0.5)}
    assert no_mask["per_cent_of_reference"] == 50.0
    assert no_mask["outcomes"] == {"valid": 2, "over_retain_budget": 1}
    # Three trials of 2.5 s, each with half a card and two cores.
    spent = {"gpu_seconds": 3.75, "cpu_seconds": 15.0, "passes_booked": 420, "passes_made": 360}
    assert no_mask["spent"] == spent
    assert (hot["result"], hot["to_reference"], hot["to_baseline"]) == (None, None, None)
    assert hot["reason"] == "no trial is valid; the study is queued, finished trials: 1 diverged"
    assert table["baseline"]["result"]["mean"] == 2.0
    assert table["baseline"]["result"]["standard_error"] is None
    assert (hot["verdict"], table["baseline"]["verdict"]) == (None, None)


def test_table_against_another_reference(api, tried):
    rows = {row["variant"]: row for row in api.get(f"{tried}?reference=no_mask").json()["rows"]}
    assert rows["sign"]["to_reference"]["value"] == 1.0
    assert rows["sign"]["per_cent_of_reference"] == 200.0
    assert rows["no_mask"]["to_reference"] is None
    without = {row["variant"]: row for row in api.get(f"{tried}?reference=hot").json()["rows"]}
    assert without["sign"]["to_reference"] is None
    assert without["sign"]["to_baseline"]["value"] == 2.0


def test_table_in_markdown_and_csv(api, tried):
    answer = api.get(f"{tried}?format=markdown")
    assert answer.headers["content-type"].startswith("text/markdown")
    lines = [line for line in answer.text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3].split("|")[2].strip() == "3.0000 ± 0.5000 (0.3536)"
    assert "* hot: no trial is valid" in answer.text
    answer = api.get(f"{tried}?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = {row["variant"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert list(rows) == ["sign", "no_mask", "hot", "baseline"]
    assert float(rows["no_mask"]["to_reference"]) == -1.0
    assert float(rows["no_mask"]["to_reference_standard_error"]) == pytest.approx(math.sqrt(1.25))
    assert rows["hot"]["mean"] == ""
    assert rows["no_mask"]["outcomes"] == "over_retain_budget=1;valid=2"


def test_where_lower_is_better(api, database):
    """Best, table and pages follow the objective's direction."""
    cloze = {"objective": {"metric": "cloze_accuracy", "reduce": "final", "direction": "minimize"}}
    made = post(api, "lower", {"a": {}}, evaluations=["cloze"], **cloze)
    assert made.status_code == 201, made.text
    study = made.json()["variants"][0]["study"]
    for ordinal, value in enumerate((0.5, 0.25, 0.75)):
        finish(database, study, ordinal, result(Outcome.VALID, value))
    assert api.get(f"/studies/{study}/best").json()["ordinal"] == 1
    assert api.get(f"/studies/{study}").json()["progress"]["best_value"] == 0.25
    [listed] = api.get("/studies?text=lower/a").json()["items"]
    assert listed["progress"]["best_value"] == 0.25
    assert api.get(made.json()["links"]["self"]).json()["variants"][0]["progress"]["best_value"] == 0.25
    assert api.get(made.json()["links"]["table"]).json()["rows"][0]["result"]["best"] == 0.25


def test_lists_leave_out_what_is_large(api, database):
    study = api.post("/studies", json=QUICKSTART | {"name": "recorded"}).json()
    losses = {"attacked": [[1.5, 2.5]]}
    finish(database, study["id"], 0, result(Outcome.VALID, 1.0, token_losses=losses, overrun=0.1))
    [listed] = api.get(study["links"]["trials"]).json()["items"]
    assert listed.keys().isdisjoint({"result", "trace", "token_losses"})
    assert (listed["overrun"], listed["seconds"]) == (0.1, 2.5)
    assert api.get(f"{study['links']['trials']}/0").json()["result"]["token_losses"] == losses
    assert api.get(study["links"]["best"]).json()["result"].keys().isdisjoint({"trace", "token_losses"})
