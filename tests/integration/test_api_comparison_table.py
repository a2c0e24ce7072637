"""The table of a comparison over HTTP. Rows are written as the runner writes them."""

import csv
import datetime
import io
import json
import math
import zipfile

import pytest
from problem_documents import assert_problem
from rich.console import Console
from test_api_comparisons import post
from test_api_trials import finish, result

from mudman.results import Outcome, TrialResult
from service.cli import comparison_display
from service.evidence import verification
from service.export import verify
from service.store.tables import Comparison, Study, Trial


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
        "effective_n": 2.0,
        "standard_error_published": pytest.approx(1 / math.sqrt(2)),
        "median": 4.0,
        "best": 9.0,
        "top10_mean": pytest.approx(17 / 3),
    }
    assert (sign["to_reference"], sign["per_cent_of_reference"], sign["verdict"]) == (None, 100.0, "reference")
    assert sign["to_baseline"] == {"value": 2.0, "standard_error": pytest.approx(1.0)}
    # 2.5 and 3.5: mean 3, standard error 1/2. To 4: √(1 + 1/4). Its gain of 1 is half of 2.
    found = no_mask["to_reference"]
    assert (found["value"], found["standard_error"]) == (-1.0, pytest.approx(math.sqrt(1.25)))
    assert found["per_cent"] == -25.0
    assert found["p_adjusted"] is None, "two trials each resolve nothing"
    assert (no_mask["verdict"], no_mask["reference_lead"]) == ("not distinguishable", pytest.approx(100 / 3))
    assert no_mask["to_baseline"] == {"value": 1.0, "standard_error": pytest.approx(0.5)}
    assert no_mask["per_cent_of_reference"] == 50.0
    assert no_mask["outcomes"] == {"valid": 2, "over_retain_budget": 1}
    # Three trials of 2.5 s, each with half a card and two cores.
    spent = {"gpu_seconds": 3.75, "cpu_seconds": 15.0, "passes_booked": 420, "passes_made": 360, "passes_skipped": 0}
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
    against_none = [row["verdict"] for row in api.get(f"{tried}?reference=hot").json()["rows"]]
    assert against_none == [None, None, None]
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


def test_the_baseline_as_reference_is_exact(api, tried):
    """It ran once and has no standard error of its own: with that, nothing could ever be told from it."""
    rows = {row["variant"]: row for row in api.get(f"{tried}?reference=baseline").json()["rows"]}
    # 4 ± 1 and 3 ± 1/2 against 2, of two trials each.
    assert rows["sign"]["to_reference"].items() >= rows["sign"]["to_baseline"].items()
    found = rows["no_mask"]["to_reference"]
    assert (found["value"], found["standard_error"], found["per_cent"]) == (1.0, pytest.approx(0.5), 50.0)
    assert {row["verdict"] for row in rows.values()} == {"not distinguishable", None}


def test_the_original_model_stands_beside_the_baseline(api, database, tried):
    """Once it is measured: in the table however it is written, in the figure and on the page."""
    assert api.get(tried).json()["original"] is None
    with database.begin() as session:
        study = session.get_one(Study, api.get(tried).json()["rows"][1]["study"])
        study.preparation = {"initial_forget_loss": 2.0625, "initial_retain_loss": 3.5, "baseline": None}
    table = api.get(tried).json()
    assert table["original"] == {"value": 2.0625, "forget_loss": 2.0625, "retain_loss": 3.5}
    assert "| original model, not attacked | 2.0625 |" in api.get(f"{tried}?format=markdown").text
    rows = csv.DictReader(io.StringIO(api.get(f"{tried}?format=csv").text))
    assert {row["original"] for row in rows} == {"2.0625"}
    bars = api.get(f"/comparisons/{table['comparison']}/figures/bars").json()
    assert "original model, not attacked" in str(bars)
    page = api.get(f"/ui/comparisons/{table['comparison']}").text
    assert page.count('<line class="original"') == 1
    assert "retain loss 3.5000" in page


def test_beyond_the_baseline(api, database):
    made = post(api, "beyond", {"a": {}}).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    for ordinal, value in enumerate((3.0, 3.5, 3.1, 3.3, 3.4, 2.9, 3.2, 3.6)):
        finish(database, ids["a"], ordinal, result(Outcome.VALID, value))
    finish(database, ids["baseline"], 0, result(Outcome.VALID, 2.0))
    [row] = api.get(f"{made['links']['table']}?reference=baseline").json()["rows"]
    assert row["verdict"] == "better"


CLOZE = {"objective": {"metric": "cloze_accuracy", "reduce": "final", "direction": "minimize"}}


def test_the_lead_where_lower_is_better(api, database):
    made = post(api, "lead", {"low": {}, "high": {"method.mask": "none"}}, evaluations=["cloze"], **CLOZE).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    for variant, value in {"low": 0.25, "high": 0.5}.items():
        finish(database, ids[variant], 0, result(Outcome.VALID, value))
    rows = {row["variant"]: row for row in api.get(made["links"]["table"]).json()["rows"]}
    assert rows["high"]["to_reference"]["value"] == 0.25
    assert rows["high"]["reference_lead"] == 50.0


def test_accuracies_over_different_questions_are_not_compared(api, database):
    few = {"evaluations": [{"type": "cloze", "limit": 50}]}
    made = post(api, "questions", {"all": {}, "few": few}, evaluations=["cloze"], **CLOZE).json()
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    for variant, value in {"all": 0.25, "few": 0.5, "baseline": 0.75}.items():
        finish(database, ids[variant], 0, result(Outcome.VALID, value))
    rows = {row["variant"]: row for row in api.get(made["links"]["table"]).json()["rows"]}
    assert rows["all"]["to_baseline"]["value"] == -0.5
    nothing = ("to_reference", "to_baseline", "per_cent_of_reference", "reference_lead", "verdict")
    assert [rows["few"][name] for name in nothing] == [None] * 5


def test_what_no_worker_began_has_cost_nothing(api, database):
    """An attempt that waited for a place and was lost with its runner."""
    made = post(api, "waited", {"a": {}}).json()
    [study] = [one["study"] for one in made["variants"] if one["variant"] == "a"]
    for ordinal in (0, 1):
        finish(database, study, ordinal, TrialResult(outcome=Outcome.LOST))
    with database.begin() as session:
        waited, began = (session.get_one(Trial, (study, ordinal, 1)) for ordinal in (0, 1))
        waited.worker = None
        for row in (waited, began):
            row.started_at -= datetime.timedelta(seconds=10)
    [row] = api.get(made["links"]["table"]).json()["rows"]
    assert row["spent"]["cpu_seconds"] == 10


def test_a_variant_that_is_not_there(api, tried):
    problem = assert_problem(api.get(f"{tried}?reference=no_mas"), 404, "unknown-variant")
    [error] = problem["errors"]
    assert (error["path"], error["pointer"]) == ("reference", "")
    assert error["remedy"] == "did you mean no_mask?"


def test_markdown_of_a_name_with_a_bar(api):
    made = post(api, "bars", {"a|b": {}}).json()
    lines = api.get(f"{made['links']['table']}?format=markdown").text.splitlines()
    cells = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert len(cells) == 1


def test_published_results_stand_beside_ours(api, database, tmp_path):
    """Of those variants that the paper has a number of, where the comparison comes from a preset of it."""
    made = post(api, "published before", {"mudman": {}, "of_my_own": {"method.mask": "none"}}).json()
    here = made["links"]["table"]
    for one in made["variants"]:
        finish(database, one["study"], 0, result(Outcome.VALID, 3.0))
    assert {row["published"] for row in api.get(here).json()["rows"]} == {None}
    assert "published result" not in api.get(f"{here}?format=markdown").text
    with database.begin() as session:
        session.get_one(Comparison, made["id"]).preset = "additions-pythia-python"

    table = api.get(here).json()
    published = {row["variant"]: row["published"] for row in [*table["rows"], table["baseline"]]}
    assert published == {
        "mudman": {"value": 11.3, "standard_error": 0.95},
        "of_my_own": None,
        "baseline": {"value": 3.3432, "standard_error": None},
    }
    lines = [line.split(" | ") for line in api.get(f"{here}?format=markdown").text.splitlines() if " | " in line]
    place = lines[0].index("published result")
    assert [line[place] for line in lines[2:5]] == ["11.3 ± 0.95", "–", "3.3432"]
    rows = list(csv.DictReader(io.StringIO(api.get(f"{here}?format=csv").text)))
    assert [row["published"] for row in rows] == ["11.3", "", "3.3432"]
    assert [row["published_standard_error"] for row in rows] == ["0.95", "", ""]

    said = Console(width=300, record=True, file=io.StringIO())
    said.print(comparison_display.table(table))
    for shown in (said.export_text(), api.get(f"/ui/comparisons/{made['id']}").text):
        assert "published" in shown
        assert "11.3 ± 0.95" in shown

    export = api.get(f"/comparisons/{made['id']}/export").json()
    assert export["table"] == table
    assert verify(export) == []
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(api.get(f"/comparisons/{made['id']}/export?format=bundle").content)
    assert json.loads(zipfile.ZipFile(bundle).read("table.json")) == table
    assert not [line for line in verification.verify(bundle).faults if line.startswith("table.json")]
