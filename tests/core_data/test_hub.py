"""Models and texts by hub id, over HTTP, through the command that users type; and what they read when it fails."""

import gzip
import json

import pytest
from hub_server import COMMIT, Hub
from hub_shell import Shell

from mudman import packaged
from mudman.results import Outcome, Preparation, TrialResult

MODEL = packaged.MODELS["tiny-llama"].path
SPEC = {
    "name": "from-the-hub",
    "model": {"id": "org/model"},
    "forget": {"corpus": "org/parquet", "column": "content"},
    "retain": {"corpus": "org/lines"},
    "batch": {"size": 2, "length": 32},
    "method": {"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 0.001},
    "attack": {"rate": 0.01, "passes": 4},
    "budget": {"unlearn_passes": 10, "trials": 1},
}


def _texts(name: str) -> bytes:
    return gzip.decompress(packaged.TEXTS[name].path.read_bytes())


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    from datasets import Dataset

    root = tmp_path_factory.mktemp("hub")
    for folder in ("lines", "parquet/data", "empty"):
        (root / folder).mkdir(parents=True)
    (root / "lines" / "train.jsonl").write_bytes(_texts("wikipedia"))
    functions = [json.loads(line)["text"] for line in _texts("python-functions").splitlines()]
    Dataset.from_dict({"content": functions}).to_parquet(root / "parquet" / "data" / "train-00000-of-00001.parquet")
    (root / "empty" / "notes.md").write_text("nothing here")
    repositories = {
        ("models", "org/model"): MODEL,
        ("models", "org/gated"): MODEL,
        ("models", "org/empty"): root / "empty",
        ("datasets", "org/lines"): root / "lines",
        ("datasets", "org/parquet"): root / "parquet",
        ("datasets", "org/gated"): root / "lines",
        ("datasets", "org/empty"): root / "empty",
        ("models", "org/broken"): None,
        ("datasets", "org/broken"): None,
    }
    with Hub(repositories, gated={"org/gated"}, broken={"org/broken"}) as hub:
        yield hub


@pytest.fixture(scope="module")
def shell(hub, tmp_path_factory):
    shell = Shell(hub, tmp_path_factory.mktemp("shell"))
    yield shell
    shell.close()


def test_a_model_and_data_sets_by_id_make_a_trial(hub, shell):
    done = shell.run("trial", SPEC, "--json")

    assert done["exit"] == 0, done["err"]
    result = TrialResult.model_validate_json(done["out"])
    assert result.outcome is Outcome.VALID
    assert result.unlearning.forget_loss[0] < 6  # a trained model and its kind of text, not random weights
    weights = [line for line in hub.asked if line.startswith("GET") and "model.safetensors" in line]
    assert weights == [f"GET /org/model/resolve/{COMMIT}/model.safetensors"]  # by commit, not by branch
    data = [line for line in hub.asked if "/datasets/" in line and line.endswith((".jsonl", ".parquet"))]
    assert data
    assert all(f"/resolve/{COMMIT}/" in line for line in data)


def test_preparing_pins_branches_to_commits(shell):
    preparation = Preparation.model_validate_json(shell.run("prepare", SPEC)["out"])

    assert preparation.model_revision == COMMIT
    assert [corpus["revision"] for corpus in preparation.corpora.values()] == [COMMIT] * 2


def test_a_commit_is_not_asked_for_again(hub, shell):
    del hub.asked[:]
    pinned = {"corpus": "org/lines", "revision": COMMIT}
    assert shell.run("trial", {**SPEC, "retain": pinned}, "--set", "seeds.data=7")["exit"] == 0
    assert not [line for line in hub.asked if line.endswith("/api/datasets/org/lines")]


FAULTS = [
    # section, field, value -> what a user reads
    ("model", {"id": "org/nothing"}, "model.id: the hub has no org/nothing, or it is private"),
    ("model", {"id": "org/model", "revision": "v9"}, "model.revision: org/model has no revision 'v9'"),
    ("model", {"id": "org/gated"}, "model.id: org/gated is gated. Remedy: accept its licence on the hub"),
    ("model", {"id": "org/broken"}, "model.id: org/broken"),
    ("model", {"id": "org/empty"}, "model.id: org/empty holds no configuration"),
    ("retain", {"corpus": "org/nothing"}, "retain.corpus: the hub has no org/nothing, or it is private"),
    ("retain", {"corpus": "org/lines", "revision": "v9"}, "retain.revision: org/lines has no revision 'v9'"),
    ("retain", {"corpus": "org/gated"}, "retain.corpus: org/gated is gated. Remedy: accept its licence on the hub"),
    ("retain", {"corpus": "org/broken"}, "retain.corpus: org/broken cannot be fetched: the hub answered 500"),
    ("retain", {"corpus": "org/empty"}, "retain.corpus: org/empty cannot be read"),
    ("retain", {"corpus": "org/lines", "split": "dev"}, 'Unknown split "dev"'),
    ("retain", {"corpus": "org/lines", "config": "big"}, "retain.corpus: org/lines cannot be read: BuilderConfig"),
    (
        "retain",
        {"corpus": "org/lines", "column": "body"},
        "retain.column: org/lines has no column 'body'. Remedy: one ",
    ),
]


@pytest.mark.parametrize(("section", "value", "words"), FAULTS, ids=lambda value: str(value)[:30])
def test_what_the_hub_refuses_is_said_with_the_remedy(section, value, words, shell):
    done = shell.run("trial", {**SPEC, section: value})

    assert done["exit"] == 2
    assert words in done["err"]
    assert "Remedy: " in done["err"]
    assert "Traceback" not in done["err"]
    assert done["out"] == ""


def test_a_model_that_was_fetched_once_is_found_without_the_hub(hub, shell):
    hub.stop()
    local = {"forget": {"corpus": "python-functions"}, "retain": {"corpus": "wikipedia"}}

    assert shell.run("trial", {**SPEC, **local})["exit"] == 0


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_data_set_that_was_fetched_once_is_found_without_the_hub(revision, hub, shell):
    hub.stop()
    forget, retain = {"corpus": "python-functions"}, {"corpus": "org/lines", "revision": revision}
    done = shell.run("prepare", {**SPEC, "forget": forget, "retain": retain})

    assert done["exit"] == 0, done["err"]
    assert Preparation.model_validate_json(done["out"]).corpora["retain"]["revision"] == COMMIT


@pytest.mark.parametrize("revision", ["v9"])
def test_another_state_than_the_one_in_the_cache_is_not_taken_for_it(revision, hub, shell):
    hub.stop()
    done = shell.run("trial", {**SPEC, "forget": {**SPEC["forget"], "revision": revision}})

    assert done["exit"] == 2
    assert "forget.corpus: org/parquet cannot be fetched: the hub cannot be reached" in done["err"]


def test_a_hub_that_is_down_is_said_with_the_remedy(hub, shell):
    hub.stop()
    for spec, path in (
        ({**SPEC, "model": {"id": "org/other"}}, "model.id: org/other"),
        ({**SPEC, "forget": {"corpus": "org/other"}}, "forget.corpus: org/other"),
    ):
        done = shell.run("trial", spec)
        assert done["exit"] == 2
        assert f"{path} cannot be fetched: the hub cannot be reached. Remedy: give the" in done["err"]
        assert "Traceback" not in done["err"]
