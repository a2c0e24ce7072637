"""Studies whose trials have numbers to compute with, written as the runner writes them."""

from test_api_comparisons import post
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome, Preparation
from mudman.specs import parse
from service.store import studies

PASSES = {"passes_booked": 140, "passes_made": 120}
VALUES = [2.0, 2.4, 2.2, 2.6, 2.3, 2.5, 3.1, 3.3, 3.0, 3.4, 3.2, 3.5]


def submit(api, name: str, **overrides) -> str:
    body = {"preset": "quickstart", "overrides": {"name": name, "statistics.last": 6, **overrides}}
    answer = api.post("/studies", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def chosen(rate: float) -> dict[str, float]:
    """Everything in the middle of its range, but for the unlearning rate."""
    space = parse(presets.load("quickstart")).search_space()
    return {name: float(searched.middle()) for name, searched in space.items()} | {"unlearning_rate": rate}


def improving(api, database) -> str:
    """Twelve valid trials that improve, with the rate at the top of [0.001, 0.02]; one over budget, one lost."""
    study_id = submit(api, "improving", resources={"gpus": 0.5, "cpus": 2, "max_concurrent": 1})
    for ordinal, value in enumerate(VALUES):
        finish(database, study_id, ordinal, result(Outcome.VALID, value, **PASSES), chosen=chosen(0.019))
    finish(database, study_id, 12, result(Outcome.OVER_RETAIN_BUDGET, passes_skipped=30, **PASSES), chosen=chosen(0.02))
    finish(database, study_id, 13, result(Outcome.LOST), chosen=chosen(0.02))
    prepared = Preparation(
        model_revision="packaged",
        corpora={},
        matched_modules=(),
        intervened_parameters=10,
        initial_forget_loss=2.0,
        initial_retain_loss=3.0,
        baseline=result(Outcome.VALID, 1.5),
        seconds=1.0,
        versions={},
    )
    with database.begin() as session:
        studies.get(session, study_id).preparation = prepared.model_dump(mode="json")
    return study_id


def resolved(api, database) -> dict:
    """Ten trials each: one variant a little and one much below the first; the third has run five only."""
    made = post(api, "resolved", {"a": {}, "near": {"method.mask": "none"}, "far": {"method.normalization": "none"}})
    ids = {one["variant"]: one["study"] for one in made.json()["variants"]}
    bumps = [0.0, 0.2, -0.1, 0.1, -0.2, 0.15, -0.15, 0.05, -0.05, 0.1]
    for variant, level, trials in (("a", 3.0, 10), ("near", 2.98, 10), ("far", 2.0, 5)):
        for ordinal, bump in enumerate(bumps[:trials]):
            finish(database, ids[variant], 2 * ordinal, result(Outcome.VALID, level + bump, **PASSES))
            pruned = result(Outcome.PRUNED, passes_made=60, passes_booked=70, passes_skipped=50)
            finish(database, ids[variant], 2 * ordinal + 1, pruned)
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 1.5, passes_made=40, passes_booked=40))
    return made.json()
