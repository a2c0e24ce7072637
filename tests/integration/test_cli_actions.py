"""Commands that do something to a study, against the API as a real server; nobody works on what they submit."""

import io
import json

import pytest
from ruamel.yaml import YAML
from searched import chosen
from test_api_trials import finish, result
from test_cli_comparisons import address, mudman  # noqa: F401 - fixtures

from mudman import presets
from mudman.results import Outcome
from service.store import studies
from service.store.states import Action


@pytest.fixture
def submit(mudman, database):  # noqa: F811
    def make(name: str, *actions: Action) -> str:
        study_id = json.loads(mudman("submit", "quickstart", "--set", f"name={name}", "--json")[1])["id"]
        with database.begin() as session:
            for action in actions:
                studies.change_state(session, study_id, action)
        return study_id

    return make


def test_from_pause_to_deletion(mudman, database, submit):  # noqa: F811
    study_id = submit("acted on", Action.PREPARE, Action.RUN)
    finish(database, study_id, 0, result(Outcome.ERROR))
    assert mudman("pause", "acted on") == (0, f"study acted on ({study_id}) is paused\n")
    assert mudman("pause", study_id)[0] == 2
    assert mudman("resume", "acted on") == (0, f"study acted on ({study_id}) is running\n")
    code, said = mudman("enqueue", "acted on", "unlearning_rate=0.01", "fork_every=12")
    assert (code, said) == (0, f"enqueued; 1 in line for study {study_id}\n")
    waiting = json.loads(mudman("enqueue", "acted on", "fork_every=7", "--json")[1])["waiting"]
    chosen = [{"unlearning_rate": 0.01, "fork_every": 12}, {"fork_every": 7}]
    assert [trial["hyperparameters"] for trial in waiting] == chosen

    code, said = mudman("delete", "acted on", "--yes")
    assert (code, f"mudman cancel {study_id}" in said) == (2, True)
    assert mudman("cancel", "acted on") == (0, f"study acted on ({study_id}) is cancelled\n")
    extended = json.loads(mudman("extend", "acted on", "--trials", "12", "--json")[1])
    assert (extended["state"], extended["spec"]["budget"]["trials"]) == ("queued", 12)
    code, said = mudman("retry", "acted on")
    assert (code, "is queued and cannot be retried" in said) == (2, True)
    mudman("cancel", "acted on")
    code, said = mudman("retry", "acted on", "--outcome", "lost")
    assert (code, "ended in lost: there is nothing to retry" in said) == (2, True)
    code, said = mudman("retry", "acted on", "--outcome", "error", "--trial", "0")
    assert (code, said) == (0, f"study acted on ({study_id}) is queued\n")
    mudman("cancel", "acted on")
    assert mudman("delete", "acted on", "--yes") == (0, f"study acted on ({study_id}) is deleted\n")
    assert mudman("delete", study_id, "--yes")[0] == 2


def test_deletion_asks_first(mudman, submit, monkeypatch):  # noqa: F811
    study_id = submit("asked about", Action.CANCEL)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    assert mudman("delete", "asked about")[0] == 130
    assert mudman("delete", "asked about")[0] == 0
    assert mudman("delete", study_id, "--yes")[0] == 2, "it is gone"


def test_what_is_wrong_is_said_by_field(mudman, submit):  # noqa: F811
    submit("wrongly")
    code, said = mudman("enqueue", "wrongly", "fork_evry=12")
    assert (code, "did you mean 'fork_every'?" in said) == (2, True)
    assert "The request has wrong fields" in said
    code, said = mudman("enqueue", "wrongly", "fork_every")
    assert (code, "NAME=VALUE" in said) == (2, True)
    assert mudman("extend", "wrongly")[0] == 2
    assert mudman("retry", "wrongly", "--outcome", "valid")[0] == 2


def test_a_comparison_is_deleted_by_its_name(mudman, tmp_path):  # noqa: F811
    file = tmp_path / "masks.yaml"
    YAML().dump(presets.load("quickstart") | {"name": "gone soon", "variants": {"sign": {}}}, file)
    made = json.loads(mudman("compare", str(file), "--json")[1])
    assert mudman("delete", "gone soon", "--yes")[0] == 2
    mudman("cancel", "gone soon")
    assert mudman("delete", "gone soon", "--yes") == (0, f"comparison gone soon ({made['id']}) is deleted\n")


def test_the_best_is_shown_beside_what_is_left_of_it(mudman, database, submit):  # noqa: F811
    study_id = submit("to be confirmed")
    finish(database, study_id, 0, result(Outcome.VALID, 4.0), chosen=chosen(0.01))
    finish(database, study_id, 1, result(Outcome.VALID, 3.9), chosen=chosen(0.02))
    made = json.loads(mudman("confirm", "to be confirmed", "--best", "2", "--seeds", "2", "--json")[1])
    assert (made["name"], made["spec"]["budget"]["trials"]) == ("to be confirmed-confirmed", 4)
    code, said = mudman("best", study_id)
    assert (code, "so far (0 of 4 runs, queued)" in said, "no run is valid yet" in said) == (0, True, True)
    for ordinal, value in enumerate((3.0, 3.2, 3.5, 3.5)):
        finish(database, made["id"], ordinal, result(Outcome.VALID, value))
    for command in ("best", "stats"):
        code, said = mudman(command, study_id)
        assert "3.1000 ± 0.1000" in said
        assert "-0.9000 ± 0.1000" in said
        assert "confirmed best: trial 1, not 0, by +0.4000 ± 0.1000" in said
