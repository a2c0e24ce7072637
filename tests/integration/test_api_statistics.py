"""Statistics of a study and of a comparison over HTTP. Rows are written as the runner writes them."""

import math
import statistics

import large
import pytest
from problem_documents import assert_problem
from searched import VALUES, chosen, improving, resolved, submit

from mudman.specs import StudySpec
from service.statistics.compute import Attempt, best_first, by_outcome, tally
from service.statistics.means import summarise
from service.store import exports, recent, standing, studies


@pytest.fixture(scope="module")
def study(api, database) -> str:
    return improving(api, database)


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
    assert found["passes_skipped"] == found["by_outcome"]["over_retain_budget"]["passes_skipped"] == 30
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


# ------------------------------------------------------------------------------------------------------ comparisons


@pytest.fixture(scope="module")
def compared(api, database) -> dict:
    return resolved(api, database)


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
    assert first["spent"]["passes_skipped"] == 50 * valid
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
