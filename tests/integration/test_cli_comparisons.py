"""Commands about comparisons, against the API as a real server; nobody works on what they submit."""

import csv
import io
import json
import threading
import time

import pytest
import uvicorn
from ruamel.yaml import YAML
from test_api_trials import finish, result

from mudman import presets
from mudman.results import Outcome
from service.app import create_app
from service.cli import _run
from service.store.settings import Settings


@pytest.fixture(scope="module")
def address(database, data_root):
    app = create_app(Settings(database_url=database.url, data_root=data_root))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def mudman(address, capsys):
    """Runs a command; returns its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = _run([*arguments, "--url", address])
        printed = capsys.readouterr()
        return code, printed.out or printed.err

    return run


def test_from_a_file_to_its_table(mudman, database, tmp_path):
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

    assert "masks/sign" in mudman("ls")[1]
    assert made["id"] in mudman("comparisons")[1]
    [listed] = json.loads(mudman("comparisons", "--text", "mask", "--json")[1])
    assert (listed["id"], listed["progress"]["budget"]) == (made["id"], 5)
    code, said = mudman("cancel", "masks")
    assert (code, f"({made['id']}) is cancelled" in said) == (0, True)
    assert mudman("cancel", made["id"])[0] == 2


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
