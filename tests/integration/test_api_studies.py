"""The contract of ``/studies`` over HTTP, against a real database."""

import pytest
from problem_documents import assert_problem
from sqlalchemy import select

from mudman import presets
from service.store.tables import Study

QUICKSTART = presets.load("quickstart")


def post(api, name: str, **overrides):
    return api.post("/studies", json={"preset": "quickstart", "overrides": {"name": name, **overrides}})


def test_create_from_a_preset(api):
    answer = post(api, "from-preset", **{"budget.trials": 7})
    assert answer.status_code == 201
    study = answer.json()
    assert answer.headers["location"] == f"/studies/{study['id']}" == study["links"]["self"]
    assert (study["name"], study["state"], study["preset"]) == ("from-preset", "queued", "quickstart")
    assert study["progress"] == {
        "trials": 0,
        "budget": 7,
        "running": 0,
        "outcomes": {},
        "eta_seconds": None,
        "best_value": None,
        "live": [],
    }
    assert (study["lease"], study["problem"], study["preparation"]) == (None, None, None)
    assert study["created_at"].endswith("Z")
    assert api.get(answer.headers["location"]).json() == study


def test_create_from_a_spec_in_json_and_the_same_in_yaml(api):
    lengths = {
        "attack": QUICKSTART["attack"] | {"passes": 60},
        "budget": QUICKSTART["budget"] | {"unlearn_passes": 150},
    }
    in_json = api.post("/studies", json=QUICKSTART | lengths | {"name": "both-forms"})
    assert in_json.status_code == 201
    document = YAML_SPEC.replace("NAME", "both-forms")
    in_yaml = api.post("/studies", content=document, headers={"Content-Type": "application/yaml; charset=utf-8"})
    assert (in_yaml.status_code, in_yaml.json()["id"]) == (200, in_json.json()["id"])
    assert in_yaml.headers["location"] == in_json.headers["location"]


YAML_SPEC = """
name: NAME
labels: {preset: quickstart}
model: {id: tiny-llama}
forget: {corpus: python-functions}
retain: {corpus: wikipedia}
batch: {size: 8, length: 100, evaluation: 2}
method:
  type: mudman
  target_modules: [gate_proj]
  adversary: {type: fork, gradient: reuse}
  unlearning_rate: {low: 1e-3, high: 2e-2, log: true}     # YAML 1.2: a number
  retaining_rate: {low: 1e-3, high: 1e-1, log: true}
  retain_momentum: {low: 0.5, high: 0.95}
  adversary_rate: {low: 1e-3, high: 1e-1, log: true}
  fork_every: {low: 6, high: 24, int: true}
attack: {rate: 1e-2, passes: 60, check_every: 10}
budget: {unlearn_passes: 150, trials: 10}
constraint: {retain_loss_increase: 0.1}
sampler: {type: tpe, seed: 0, startup_trials: 4}
resources: {gpus: 0, cpus: 1, max_concurrent: 2}
statistics: {last: 5}
"""


def test_another_spec_under_the_name_is_409_with_the_difference(api):
    first = post(api, "taken").json()
    problem = assert_problem(post(api, "taken", **{"budget.trials": 5}), 409, "name-taken")
    assert problem["difference"] == {"budget.trials": {"existing": 10, "given": 5}}
    assert problem["existing"] == f"/studies/{first['id']}"
    assert "10 → 5" in problem["detail"]
    assert "extend" not in problem["detail"], "to a smaller budget there is no way"
    problem = assert_problem(post(api, "taken", **{"budget.trials": 12}), 409, "name-taken")
    assert f"mudman extend {first['id']} --trials 12" in problem["detail"]


def test_idempotency_keys(api):
    def send(name: str):
        body = {"preset": "quickstart", "overrides": {"name": name}}
        return api.post("/studies", json=body, headers={"Idempotency-Key": "3f1c"})

    first, again = send("keyed"), send("keyed")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert_problem(send("keyed-otherwise"), 422, "idempotency-key-reused")


def test_dry_run_says_the_cost_and_stores_nothing(api, database):
    body = {"preset": "quickstart", "overrides": {"name": "dry", "method.adversary": {"type": "none"}}}
    body["overrides"] |= {"budget.unlearn_passes": 160, "attack.passes": 60}
    answer = api.post("/studies?dry_run=true", json=body)
    assert answer.status_code == 200
    dry = answer.json()
    assert dry["valid"] is True
    assert dry["unused"] == ["method.adversary_rate", "method.fork_every"]
    assert dry["spec"]["seeds"] == {"data": 42, "trial": 42}
    # 160 passes of unlearning and 60 of attack, ten times; the baseline is attacked once.
    assert dry["cost"] == {"trials": 10, "passes_per_trial": 220, "baseline_passes": 60, "passes_total": 2260}
    with database.begin() as session:
        assert session.scalar(select(Study).where(Study.name == "dry")) is None


def test_the_same_spec_runs_a_cancelled_study_again(api):
    study = post(api, "second-chance").json()
    api.post(f"/studies/{study['id']}/cancel")
    answer = post(api, "second-chance")
    assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (200, study["id"], "queued")
    assert answer.json()["finished_at"] is None


@pytest.fixture(scope="module")
def five(api):
    """Five studies of one owner, oldest first."""
    created = []
    for number in range(5):
        labels = {"team": "red" if number % 2 else "blue", "number": str(number)}
        created.append(post(api, f"Page_{number}", owner="pager", labels=labels).json())
    api.post(f"/studies/{created[0]['id']}/cancel")
    return [study["id"] for study in created]


def _ids(api, query: str) -> list[str]:
    answer = api.get(f"/studies?{query}")
    assert answer.status_code == 200, answer.text
    return [study["id"] for study in answer.json()["items"]]


def test_list_newest_first_in_pages(api, five):
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = api.get(
            "/studies", params={"owner": "pager", "limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [study["id"] for study in page["items"]]
        cursor, pages = page["next"], pages + 1
        if pages == 1:
            post(api, "Page_late", owner="pager", labels={"team": "late"})  # a new study does not disturb the rest
    assert (seen, pages) == (five[::-1], 3)


def test_list_filters(api, five):
    assert _ids(api, "owner=pager&state=cancelled") == five[:1]
    assert set(_ids(api, "owner=pager&state=cancelled&state=queued")) >= set(five)
    assert _ids(api, "label=team:red") == [five[3], five[1]]
    assert _ids(api, "label=team:red&label=number:3") == [five[3]]
    assert _ids(api, "label=team:red&label=team:red") == [five[3], five[1]]
    assert _ids(api, "owner=pager&text=PAGE_3") == [five[3]]
    assert _ids(api, "owner=pager&text=Page%253") == []  # a literal percent sign, not a wildcard
    assert _ids(api, "owner=pager&model=tiny-neox") == []
    assert set(_ids(api, "owner=pager&preset=quickstart&model=tiny-llama")) >= set(five)
    assert _ids(api, "owner=nobody") == []


def test_summaries_carry_what_a_table_shows(api, five):
    [summary] = api.get("/studies?label=number:4").json()["items"]
    assert (summary["model"], summary["method"]) == ("tiny-llama", "mudman")
    assert summary["progress"] == {"trials": 0, "budget": 10, "running": 0, "best_value": None}


def test_presets(api):
    listed = api.get("/presets").json()["items"]
    assert [preset["name"] for preset in listed] == presets.names()
    assert {"name", "kind", "description", "aliases", "variants", "model", "cost"} <= listed[0].keys()
    shown = api.get("/presets/quickstart").json()
    assert shown["spec"] == QUICKSTART
    assert api.post("/studies?dry_run=true", json=shown["spec"]).status_code == 200
    assert_problem(api.get("/presets/nothing"), 404, "unknown-preset")
