"""Statistics, widening and exports over HTTP. Rows are written as the runner writes them."""

import contextlib
import copy
import csv
import io
import json
import math
import statistics

import large
import pytest
from hypothesis import HealthCheck, given, settings
from mutated import mutations
from problem_documents import assert_problem
from pyarrow import parquet
from sqlalchemy import select
from test_api_comparisons import post
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome, Preparation
from mudman.specs import StudySpec, parse
from service.export import NoExport, verify
from service.statistics.compute import Attempt, best_first, by_outcome, tally
from service.statistics.means import summarise
from service.store import exports, recent, standing, studies
from service.store.tables import EnqueuedTrial

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


@pytest.fixture(scope="module")
def study(api, database) -> str:
    """Twelve valid trials that improve, with the rate at the top of [0.001, 0.02]; one over budget, one lost."""
    study_id = submit(api, "improving", resources={"gpus": 0.5, "cpus": 2, "max_concurrent": 1})
    for ordinal, value in enumerate(VALUES):
        finish(database, study_id, ordinal, result(Outcome.VALID, value, **PASSES), chosen=chosen(0.019))
    finish(database, study_id, 12, result(Outcome.OVER_RETAIN_BUDGET, **PASSES), chosen=chosen(0.02))
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


def test_what_it_found(api, study):
    found = api.get(f"/studies/{study}/statistics").json()
    assert (found["study"], found["metric"], found["direction"]) == (study, "forget_loss", "maximize")
    last = VALUES[-6:]
    assert found["result"]["n"] == 6
    assert found["result"]["mean"] == pytest.approx(statistics.fmean(last))
    assert found["result"]["standard_error_published"] == pytest.approx(statistics.pstdev(last) / math.sqrt(6))
    expected = statistics.stdev(last) / math.sqrt(found["result"]["effective_n"])
    assert found["result"]["standard_error"] == pytest.approx(expected)
    assert (found["result"]["best"], found["result"]["median"]) == (3.5, pytest.approx(3.25))
    assert found["result"]["top10_mean"] == pytest.approx(statistics.fmean(sorted(VALUES)[2:]))
    over = found["to_baseline"]
    assert (over["baseline"], over["value"]) == (1.5, pytest.approx(1.75))
    assert over["low"] < 1.75 < over["high"]
    assert (over["per_cent"], over["verdict"]) == (pytest.approx(100 * 1.75 / 1.5), "better")


def test_whether_it_converged(api, study):
    found = api.get(f"/studies/{study}/statistics").json()["convergence"]
    assert (found["verdict"], found["valid"], found["last"], found["best_after"]) == ("improving", 12, 6, 12)
    assert found["change"] == pytest.approx(statistics.fmean(VALUES[6:]) - statistics.fmean(VALUES[:6]))
    assert found["low"] < found["change"] < found["high"]
    assert found["best_gain"] == pytest.approx(3.5 - 2.6)


def test_ranges_that_are_too_narrow(api, study):
    found = api.get(f"/studies/{study}/statistics").json()
    assert found["saturated"] == ["unlearning_rate"]
    ranges = {one["name"]: one for one in found["ranges"]}
    assert set(ranges) == set(chosen(0.01))
    rate = ranges["unlearning_rate"]
    assert (rate["best"], rate["at_edge"], rate["top"], rate["top_high"]) == (0.019, "high", 10, 10)
    assert rate["widened"] == {"low": 0.001, "high": pytest.approx(0.02 * math.sqrt(20)), "log": True, "int": False}
    assert ranges["fork_every"]["saturated"] is None
    assert ranges["fork_every"]["position"] == 0.5


def test_what_it_spent(api, study):
    found = api.get(f"/studies/{study}/statistics").json()["compute"]
    assert (found["attempts"], found["passes_made"], found["passes_booked"]) == (14, 13 * 120, 13 * 140)
    assert (found["gpu_seconds"], found["cpu_seconds"]) == (14 * 2.5 * 0.5, 14 * 2.5 * 2)
    assert {name: part["attempts"] for name, part in found["by_outcome"].items()} == {
        "valid": 12,
        "over_retain_budget": 1,
        "lost": 1,
    }


def test_nothing_yet(api):
    found = api.get(f"/studies/{submit(api, 'nothing yet')}/statistics").json()
    assert (found["result"], found["to_baseline"], found["ranges"], found["saturated"]) == (None, None, [], [])
    assert found["convergence"]["verdict"] == "too few trials"
    assert found["compute"]["attempts"] == 0


def test_another_seed(api, study):
    first, again, other = (api.get(f"/studies/{study}/statistics?seed={seed}").json() for seed in (1, 1, 2))
    assert first == again
    assert (first["bootstrap"]["seed"], other["bootstrap"]["seed"]) == (1, 2)
    assert first["to_baseline"]["high"] != other["to_baseline"]["high"]
    problem = assert_problem(api.get(f"/studies/{study}/statistics?seed=-1"), 422, "invalid-request")
    assert problem["errors"][0]["path"] == "seed"
    assert_problem(api.get("/studies/st_aaaaaaaaaaaaaaaa/statistics"), 404, "unknown-study")


def test_what_the_database_adds_up_is_what_the_rows_come_to(study, database):
    with database.begin() as session:
        rows = exports.finished(session, study)
        attempts = [Attempt(*row[:9]) for row in rows]
        assert standing.top(session, studies.get(session, study), 10) == best_first(attempts, 10)
        assert standing.by_outcome(session, [study])[study] == by_outcome(attempts)
        shown = recent.tallies(session, [studies.get(session, study)])[study]
        assert shown.over([]) == tally(attempts).over([])
        assert [one.ordinal for one in standing.finished(session, [study])[study]] == list(range(14))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_table_s_means_need_the_last_values_and_the_best_alone(api, database, direction: str):
    """Also where many are equal."""
    cloze = {"metric": "cloze_accuracy", "reduce": "final", "direction": "minimize"}
    lowest = {"evaluations": ["cloze"], "objective": cloze} if direction == "minimize" else {}
    overrides = {"name": f"shown {direction}", **lowest}
    made = api.post("/studies", json={"preset": "quickstart", "overrides": overrides}).json()["id"]
    with database.begin() as session:
        large.fill(session, made, 300, digits=1)
        attempts = standing.finished(session, [made])[made]
        study = studies.get(session, made)
        whole, shown = tally(attempts), recent.tallies(session, [study])[made]
        cheap = recent.tallies(session, [study], spent=False)[made]
        last, lower = StudySpec.model_validate(study.spec).statistics.last, direction == "minimize"
    assert len(shown.values) < len(whole.values) == 210
    assert summarise(shown.values, last, minimise=lower) == summarise(whole.values, last, minimise=lower)
    assert shown.over([]) == whole.over([])
    assert (cheap.values, cheap.outcomes) == (shown.values, whole.outcomes)


# ------------------------------------------------------------------------------------------------------------ widen


def test_widen(api, study, database):
    answer = api.post(f"/studies/{study}/widen")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/studies/{made['id']}"
    assert (made["name"], made["state"]) == ("improving-widened", "queued")
    assert made["labels"] == {"preset": "quickstart", "widened_from": study}
    method = made["spec"]["method"]
    assert method["unlearning_rate"]["high"] == pytest.approx(0.02 * math.sqrt(20))
    parent = api.get(f"/studies/{study}").json()
    changed = {name for name in method if method[name] != parent["spec"]["method"][name]}
    assert changed == {"unlearning_rate"}
    assert made["spec"]["budget"] == parent["spec"]["budget"]
    with database.begin() as session:
        line = session.scalars(
            select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"]).order_by(EnqueuedTrial.sequence)
        ).all()
        assert [one.hyperparameters for one in line] == [chosen(0.019)] * 10
    again = api.post(f"/studies/{study}/widen")
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    with database.begin() as session:
        assert len(session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"])).all()) == 10


def test_widen_sent_again_under_its_key_answers_the_first_whatever_was_found_since(api, database):
    study_id = submit(api, "sent again")
    finish(database, study_id, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.019))
    key = {"Idempotency-Key": "wider"}
    first = api.post(f"/studies/{study_id}/widen", headers=key)
    assert first.status_code == 201, first.text
    finish(database, study_id, 1, result(Outcome.VALID, 4.0), chosen=chosen(0.005))
    again = api.post(f"/studies/{study_id}/widen", headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    other = api.post(f"/studies/{study_id}/widen", json={"warm_start": 3}, headers=key)
    assert_problem(other, 422, "idempotency-key-reused")
    assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")


def test_widen_as_one_likes(api, study, database):
    longer = {"low": 3, "high": 30, "int": True}
    body = {"name": "my own", "trials": 3, "ranges": {"fork_every": longer}, "warm_start": 5}
    made = api.post(f"/studies/{study}/widen", json=body).json()
    assert (made["name"], made["spec"]["budget"]["trials"]) == ("my own", 3)
    assert made["spec"]["method"]["fork_every"] == {"low": 3, "high": 30, "log": False, "int": True}
    assert made["spec"]["method"]["unlearning_rate"]["high"] == 0.02
    with database.begin() as session:
        line = session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == made["id"])).all()
        assert len(line) == 3, "no more than it has trials"
    none = api.post(f"/studies/{study}/widen", json=body | {"name": "cold", "warm_start": 0}).json()
    with database.begin() as session:
        assert session.scalars(select(EnqueuedTrial).where(EnqueuedTrial.study_id == none["id"])).all() == []


@pytest.mark.parametrize(("ranges", "pointer", "said"), [
    ({"rate": {"low": 0, "high": 1}}, "/ranges/rate", "is no range that the study searches"),
    ({"fork_every": {"low": 8, "high": 30, "int": True}}, "/ranges/fork_every", "does not contain the range as it was"),
    ({"fork_every": {"low": 6, "high": 30}}, "/ranges/fork_every", "does not contain the range as it was"),
    ({"fork_every": {"low": 6, "high": 24, "int": True}}, "/ranges/fork_every", "is the range as it was"),
    ({"retain_momentum": {"low": 0.0, "high": 2.0}}, "/ranges/retain_momentum/high", "must be between 0 and 1"),
    ({"fork_every": {"low": 9, "high": 1}}, "/ranges/fork_every", "low (9) must be below high (1)"),
])  # fmt: skip
def test_widen_refuses(api, study, ranges, pointer, said):
    answer = api.post(f"/studies/{study}/widen", json={"name": "refused", "ranges": ranges})
    [error] = assert_problem(answer, 422, "invalid-request")["errors"]
    assert error["pointer"] == pointer
    assert said in error["detail"]
    assert error["remedy"]


def test_nothing_to_widen(api, database):
    study_id = submit(api, "roomy")
    assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")
    finish(database, study_id, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.005))
    detail = assert_problem(api.post(f"/studies/{study_id}/widen"), 409, "nothing-to-widen")["detail"]
    assert f"/studies/{study_id}/statistics" in detail
    assert_problem(api.post("/studies/st_aaaaaaaaaaaaaaaa/widen"), 404, "unknown-study")
    whole = submit(api, "whole", **{"method.retain_momentum": {"low": 0.0, "high": 1.0}})
    finish(database, whole, 0, result(Outcome.VALID, 3.0), chosen=chosen(0.005) | {"retain_momentum": 0.99})
    detail = assert_problem(api.post(f"/studies/{whole}/widen"), 409, "nothing-to-widen")["detail"]
    assert "retain_momentum cannot go further" in detail


def test_a_name_that_is_taken(api, study):
    submit(api, "taken")
    problem = assert_problem(api.post(f"/studies/{study}/widen", json={"name": "taken"}), 409, "name-taken")
    assert "labels.widened_from" in problem["difference"]


# ----------------------------------------------------------------------------------------------------------- export


def test_export(api, study):
    answer = api.get(f"/studies/{study}/export")
    assert f'filename="{study}.json"' in answer.headers["content-disposition"]
    made = answer.json()
    assert made["statistics"] == api.get(f"/studies/{study}/statistics").json()
    assert [trial["value"] for trial in made["trials"]] == [*VALUES, None, None]
    assert made["trials"][0]["hyperparameters"] == chosen(0.019)
    assert made["study"]["spec"]["name"] == "improving"
    assert verify(made) == []


def test_an_export_that_was_changed(api, study):
    made = api.get(f"/studies/{study}/export?seed=5").json()
    assert verify(made) == []
    for change in (
        lambda doc: doc["trials"][-3].update(value=4.0),
        lambda doc: doc["statistics"]["to_baseline"].update(high=9.0),
        lambda doc: doc["statistics"]["bootstrap"].update(seed=6),
        lambda doc: doc["trials"].pop(),
        lambda doc: doc["trials"][3]["hyperparameters"].update(unlearning_rate=0.002),
        lambda doc: doc["study"]["preparation"]["baseline"].update(value=1.0),
    ):
        changed = copy.deepcopy(made)
        change(changed)
        assert verify(changed) != []
    [line] = verify(made | {"statistics": made["statistics"] | {"state": "failed"}})
    assert line == "statistics.state: 'failed' is stated, 'queued' comes out"


NO_STUDY = {"format": "mudman-study", "version": 1}


@pytest.mark.parametrize("document", [[], {}, NO_STUDY | {"version": 99}, NO_STUDY])
def test_what_is_no_export(document):
    with pytest.raises(NoExport):
        verify(document)


@pytest.mark.parametrize("change", [
    lambda doc: doc.update(format=[]),
    lambda doc: doc["study"]["spec"].update(objective=None),
    lambda doc: doc["study"]["spec"].update(method={"type": "nothing that is known"}),
    lambda doc: doc["study"]["preparation"].update(baseline=[1]),
    lambda doc: doc["trials"][11]["hyperparameters"].update(unlearning_rate=-1.0),
])  # fmt: skip
def test_an_export_that_cannot_be_computed_with(api, study, change):
    made = api.get(f"/studies/{study}/export").json()
    change(made)
    with pytest.raises(NoExport):
        verify(made)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=mutations())
def test_whatever_stands_in_an_export_checking_it_comes_to_an_end(api, study, change):
    made = api.get(f"/studies/{study}/export").json()
    change(made)
    with contextlib.suppress(NoExport):
        verify(made)


def test_export_as_csv(api, study):
    answer = api.get(f"/studies/{study}/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 14
    assert [float(row["value"]) for row in rows[:12]] == VALUES
    assert rows[12]["value"] == ""
    assert float(rows[0]["hyperparameters.unlearning_rate"]) == 0.019
    assert_problem(api.get(f"/studies/{study}/export?format=xlsx"), 422, "invalid-request")


def test_export_as_parquet(api, study):
    answer = api.get(f"/studies/{study}/export?format=parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.column("value").to_pylist() == [*VALUES, None, None]
    assert table.column("hyperparameters.unlearning_rate").to_pylist()[:2] == [0.019, 0.019]
    assert table.schema.field("ordinal").type == "int64"
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    exported = api.get(f"/studies/{study}/export").json()
    assert json.loads(table.schema.metadata[b"mudman-study"]) == exported["study"]
    assert table.num_rows == len(exported["trials"])
    empty = api.get(f"/studies/{submit(api, 'no rows')}/export?format=parquet").content
    assert parquet.read_table(io.BytesIO(empty)).num_rows == 0


# ------------------------------------------------------------------------------------------------------ comparisons


@pytest.fixture(scope="module")
def compared(api, database) -> dict:
    """Ten trials each: one variant a little and one much below the first; the third has run five only."""
    made = post(api, "resolved", {"a": {}, "near": {"method.mask": "none"}, "far": {"method.normalization": "none"}})
    ids = {one["variant"]: one["study"] for one in made.json()["variants"]}
    bumps = [0.0, 0.2, -0.1, 0.1, -0.2, 0.15, -0.15, 0.05, -0.05, 0.1]
    for variant, level, trials in (("a", 3.0, 10), ("near", 2.98, 10), ("far", 2.0, 5)):
        for ordinal, bump in enumerate(bumps[:trials]):
            finish(database, ids[variant], 2 * ordinal, result(Outcome.VALID, level + bump, **PASSES))
            finish(database, ids[variant], 2 * ordinal + 1, result(Outcome.PRUNED, passes_made=60, passes_booked=70))
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 1.5, passes_made=40, passes_booked=40))
    return made.json()


def test_differences_that_can_be_told_from_chance(api, compared):
    table = api.get(compared["links"]["table"]).json()
    _, near, far = table["rows"]
    assert (near["verdict"], far["verdict"]) == ("not distinguishable", "worse")
    assert near["to_reference"]["low"] < 0 < near["to_reference"]["high"]
    assert far["to_reference"]["high"] < 0
    share = 100 / table["rows"][0]["result"]["mean"]
    for end in ("low", "high"):
        assert far["to_reference"][f"per_cent_{end}"] == pytest.approx(share * far["to_reference"][end])
    # Holm: the smaller p-value counts twice.
    assert far["to_reference"]["p_adjusted"] == pytest.approx(2 * far["to_reference"]["p_value"])
    assert near["to_reference"]["p_adjusted"] == pytest.approx(near["to_reference"]["p_value"])
    assert table["bootstrap"] == {"seed": 0, "resamples": 10000, "confidence": 0.95}
    markdown = api.get(f"{compared['links']['table']}?format=markdown").text
    assert "| not distinguishable |" in markdown
    assert "seed 0" in markdown


@pytest.mark.parametrize(("measure", "budget", "valid"), [
    ("trials", 10, 5),
    ("passes_made", 900, 5),
    ("passes_booked", 1050, 5),
    ("cpu_seconds", 25, 5),
])  # fmt: skip
def test_at_equal_compute(api, compared, measure, budget, valid):
    table = api.get(f"{compared['links']['table']}?equal={measure}").json()
    assert table["equal_compute"] == {"measure": measure, "budget": budget, "set_by": "far"}
    first = table["rows"][0]
    assert first["outcomes"] == {"valid": valid, "pruned": valid}
    assert first["spent"].get(measure, budget) == budget
    assert first["result"]["mean"] == pytest.approx(3.0)
    assert table["baseline"]["result"]["mean"] == 1.5, "the baseline is left whole"
    whole = api.get(compared["links"]["table"]).json()
    assert whole["equal_compute"] is None
    assert whole["rows"][0]["outcomes"] == {"valid": 10, "pruned": 10}


def test_where_nothing_was_spent_of_it_nothing_is_cut(api, compared):
    table = api.get(f"{compared['links']['table']}?equal=gpu_seconds").json()
    assert table["equal_compute"]["budget"] == 0
    assert table["rows"][0]["outcomes"] == {"valid": 10, "pruned": 10}
    assert_problem(api.get(f"{compared['links']['table']}?equal=joules"), 422, "invalid-request")


def test_export_of_a_comparison(api, compared):
    answer = api.get(f"{compared['links']['self']}/export?reference=near&seed=3")
    made = answer.json()
    assert made["table"] == api.get(f"{compared['links']['table']}?reference=near&seed=3").json()
    assert [one["study"]["variant"] for one in made["studies"]] == ["a", "near", "far", "baseline"]
    assert verify(made) == []
    made["studies"][2]["trials"][8]["value"] = 2.5
    found = verify(made)
    assert any(line.startswith("table.rows.2.to_reference.low:") for line in found)
    assert any(line.startswith("studies.2.statistics.result.mean:") for line in found)
    assert not any(line.startswith("table.rows.0.") for line in found)
    problem = assert_problem(api.get(f"{compared['links']['self']}/export?reference=neer"), 404, "unknown-variant")
    assert problem["errors"][0]["remedy"] == "did you mean near?"
