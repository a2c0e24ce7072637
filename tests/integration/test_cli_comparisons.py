"""Commands about comparisons, against the API as a real server; nobody works on what they submit."""

import csv
import io
import json

import pytest
from ruamel.yaml import YAML
from served import served
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
from service.app import create_app
from service.cli import _run
from service.store import studies
from service.store.settings import Settings
from service.store.states import Action


@pytest.fixture(scope="module")
def address(database, data_root):
    app = create_app(Settings(database_url=database.url, data_root=data_root))
    with served(app) as address:
        yield address


@pytest.fixture
def mudman(address, capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = _run([*arguments, "--url", address])
        printed = capsys.readouterr()
        return code, printed.out or printed.err

    return run


def test_from_a_file_to_its_table(mudman, database, tmp_path, capsys):
    file = tmp_path / "masks.yaml"
    variants = {"sign": {}, "no_mask": {"method.mask": "none"}}
    YAML().dump(presets.load("quickstart") | {"name": "masks", "variants": variants}, file)
    code, said = mudman("compare", str(file), "--dry-run", "--set", "budget.trials=2")
    assert (code, "3 studies, 5 trials" in said) == (0, True), said
    code, said = mudman("compare", str(file), "--set", "budget.trials=2", "--json")
    made = json.loads(said)
    assert (code, made["name"], made["state"]) == (0, "masks", "queued")
    for ordinal, value in enumerate((2.0, 3.0)):
        finish(database, made["variants"][0]["study"], ordinal, result(Outcome.VALID, value))

    code, said = mudman("table", "masks")
    assert code == 0
    assert "2.5000 ± 0.5000" in said
    assert "no_mask: no trial is valid" in said
    assert json.loads(mudman("table", made["id"], "--format", "json")[1])["reference"] == "sign"
    assert mudman("table", made["id"], "--format", "markdown")[1].count("\n| ") >= 4
    rows = list(csv.DictReader(io.StringIO(mudman("table", made["id"], "--format", "csv")[1])))
    assert [row["variant"] for row in rows] == ["sign", "no_mask", "baseline"]
    code, said = mudman("table", made["id"], "--reference", "no_mas")
    assert (code, "did you mean no_mask?" in said) == (2, True)
    code, said = mudman("table", "mask")
    assert (code, "Did you mean masks?" in said) == (2, True)
    code, said = mudman("table", "unknown")
    assert (code, "`mudman comparisons` lists them" in said) == (2, True)

    file = tmp_path / "masks.json"
    assert mudman("export", "masks", str(file))[0] == 0
    assert _run(["verify", str(file)]) == 0
    changed = json.loads(file.read_text())
    changed["studies"][0]["trials"][1]["value"] = 9.0
    file.write_text(json.dumps(changed))
    assert _run(["verify", str(file)]) == 1
    assert "table.rows.0.result.mean: 2.5 is stated, 5.5 comes out" in capsys.readouterr().out
    code, said = mudman("export", "masks", "--format", "csv")
    assert (code, "a comparison is exported as json" in said) == (2, True), said
    drawn = tmp_path / "masks.svg"
    assert mudman("figure", "masks", "bars", str(drawn))[0] == 0
    assert drawn.read_text().startswith("<svg")
    assert mudman("figure", "masks/sign", "history", str(tmp_path / "history.png"))[0] == 0
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    code, said = mudman("figure", "masks", "bars", str(tmp_path / "masks.gif"))
    assert (code, "ends in none of .svg" in said.replace("\n", " ")) == (2, True)
    code, said = mudman("table", made["id"], "--equal", "trials")
    assert (code, "as much as sign spent" in said) == (0, True), said

    assert "masks/sign" in mudman("ls")[1]
    assert made["id"] in mudman("comparisons")[1]
    [listed] = json.loads(mudman("comparisons", "--text", "mask", "--json")[1])
    assert (listed["id"], listed["progress"]["budget"]) == (made["id"], 5)
    code, said = mudman("cancel", "masks")
    assert (code, f"({made['id']}) is cancelled" in said) == (0, True)
    assert mudman("cancel", made["id"])[0] == 2


def test_statistics_of_a_study_and_wider_ranges(mudman, database, tmp_path, capsys):
    made = json.loads(mudman("submit", "quickstart", "--set", "name=searched", "--json")[1])
    code, said = mudman("stats", "searched")
    assert (code, "no trial is valid" in said) == (0, True), said
    middle = {"adversary_rate": 0.01, "retaining_rate": 0.01, "retain_momentum": 0.7, "fork_every": 12.0}
    for ordinal, value in enumerate((2.0, 3.0, 2.5)):
        finish(database, made["id"], ordinal, result(Outcome.VALID, value), chosen=middle | {"unlearning_rate": 0.02})
    code, said = mudman("stats", "searched")
    assert code == 0
    assert "mean 2.5000 ± 0.2887 of the last 3 valid trials" in said
    assert "too few trials to say whether it has converged: 3 valid, 10 needed" in said
    assert f"may be too narrow: unlearning_rate. Search further: `mudman widen {made['id']}`" in said
    assert "spent: 3 trials (3 valid)" in said
    assert json.loads(mudman("stats", "searched", "--json")[1])["result"]["median"] == 2.5
    rows = list(csv.DictReader(io.StringIO(mudman("export", "searched", "--format", "csv")[1])))
    for name in ("t.csv", "t.parquet", "t.zip"):
        assert mudman("export", "searched", str(tmp_path / name))[0] == 0
    assert (tmp_path / "t.csv").read_text("utf-8").startswith("ordinal,")
    assert (tmp_path / "t.parquet").read_bytes().startswith(b"PAR1")
    code, said = mudman("export", "searched", "--format", "bundle")
    assert (code, "a bundle goes into a file" in said) == (2, True), said
    assert _run(["verify", str(tmp_path / "t.zip")]) == 1, "these rows were invented"
    assert "trials.jsonl.gz: line 1 (trial 0): result.value: 2.0 is stated, 4.0 comes out" in capsys.readouterr().out
    assert [float(row["value"]) for row in rows] == [2.0, 3.0, 2.5]
    longer = "fork_every={low: 2, high: 24, int: true}"
    code, said = mudman("widen", "searched", "--range", longer, "--trials", "4", "--json")
    assert (code, json.loads(said)["spec"]["method"]["fork_every"]["low"]) == (0, 2)
    code, said = mudman("widen", "searched", "--range", "fork_every={low: 8, high: 24, int: true}")
    assert (code, "does not contain the range as it was" in said) == (2, True)


def test_of_a_name_that_both_have_the_study_is_cancelled(mudman, tmp_path):
    file = tmp_path / "both.yaml"
    YAML().dump(presets.load("quickstart") | {"name": "both", "variants": {"sign": {}}}, file)
    compared = json.loads(mudman("compare", str(file), "--json")[1])
    study = json.loads(mudman("submit", "quickstart", "--set", "name=both", "--json")[1])
    code, said = mudman("cancel", "both")
    assert (code, f"study both ({study['id']}) is cancelled" in said) == (0, True)
    assert mudman("cancel", compared["id"])[0] == 0


def test_one_variant_of_a_preset(mudman):
    name = next(name for name in presets.names() if presets.about(name).kind == "comparison" and "small" in name)
    variant = presets.about(name).variants[1]
    code, said = mudman("submit", name, "--variant", variant, "--set", "name=alone", "--json")
    assert (code, json.loads(said)["name"]) == (0, "alone")
    assert json.loads(said)["spec"]["labels"]["variant"] == variant


def test_all_of_a_comparison_at_once(mudman, database):
    variants = "variants={sign: {}, no_mask: {method.mask: none}}"
    code, said = mudman("compare", "quickstart", "--set", "name=at once", "--set", variants, "--json")
    made = json.loads(said)
    ids = {one["variant"]: one["study"] for one in made["variants"]}
    code, said = mudman("pause", "at once")
    assert (code, "No study of comparison" in said) == (2, True), said
    with database.begin() as session:
        for action in (Action.PREPARE, Action.RUN):
            studies.change_state(session, ids["sign"], action)
    code, said = mudman("pause", "at once")
    assert (code, "no_mask is left as it is" in said) == (0, True), said
    assert mudman("resume", made["id"])[0] == 0
    code, said = mudman("compare-add", "at once", "short", "--set", "budget.trials=2")
    assert (code, "  short: st_" in said) == (0, True), said
    code, said = mudman("compare-add", "at once", "wrong", "--set", "budget.trials=none")
    assert (code, "wrong.budget.trials" in said) == (2, True), said
    code, said = mudman("cancel", "at once", "--json")
    assert {one["variant"] for one in json.loads(said)["changes"] if one["changed"]} == {*ids, "short"}
    code, said = mudman("retry", "at once", "--trial", "3")
    assert (code, "is a comparison" in said) == (2, True), said
    code, said = mudman("extend", "at once", "--trials", "20", "--json")
    assert (code, json.loads(said)["progress"]["budget"]) == (0, 61)
    assert mudman("cancel", "at once")[0] == 0
    assert mudman("delete", "at once", "--yes")[0] == 0
