"""`mudman submit --model`, against the API as a real server: what is said before anything is queued."""

import json
import shutil
from pathlib import Path

import pytest
from test_cli_comparisons import address, mudman  # noqa: F401 - fixtures

from mudman import packaged
from service.cli import _run, own_model


@pytest.fixture
def own(data_root, tmp_path) -> Path:
    return Path(shutil.copytree(packaged.MODELS["tiny-llama"].path, data_root / tmp_path.name))


@pytest.fixture
def submit(address, capsys):  # noqa: F811
    def run(*arguments: str) -> tuple[int, str, str]:
        code = _run(["submit", "quickstart", *arguments, "--url", address])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def names(mudman) -> list[str]:  # noqa: F811
    return [study["name"] for study in json.loads(mudman("ls", "--json")[1])]


def test_what_was_found_is_said_and_then_it_is_queued(submit, own):
    code, out, said = submit("--model", str(own), "--set", "name=fits", "--json")
    assert code == 0
    assert json.loads(out)["spec"]["model"]["id"] == str(own)
    for words in (
        f"{own}: llama, 1.32 million parameters in 4 layers; whole, with its tokenizer",
        "modules: 4 match, with 176,128 weights: model.layers.0.mlp.gate_proj.weight, ",
        "memory: about ",
        " are free here",
        "cost: 10 trials of up to 140 passes, 1440 in all; about 0.442 TFLOP a trial",
    ):
        assert words in said, said


def test_a_path_is_that_of_ones_own_folder(submit, own, monkeypatch):
    monkeypatch.chdir(own)
    code, out, _ = submit("--model", ".", "--set", "name=relative", "--json")
    assert (code, json.loads(out)["spec"]["model"]["id"]) == (0, str(own))


@pytest.mark.parametrize(("changes", "words"), [
    (["--set", "method.target_modules=[gate]"], "no module of this model is named 'gate'"),
    (["--set", "batch.length=300"], "take at most 256"),
])  # fmt: skip
def test_what_does_not_fit_is_not_queued(submit, mudman, own, changes, words):  # noqa: F811
    code, _, said = submit("--model", str(own), "--set", "name=unfit", *changes)
    assert (code, words in said) == (2, True), said
    assert "unfit" not in names(mudman)
    code, _, said = submit("--model", str(own), "--set", "name=unfit", *changes, "--no-preflight", "--dry-run")
    assert (code, words in said) == (0, False)


def test_too_little_memory(submit, mudman, own, monkeypatch):  # noqa: F811
    monkeypatch.setattr(own_model, "_free", lambda: 1_000_000_000)
    code, _, said = submit("--model", str(own), "--set", "name=large", "--set", "batch.size=4096")
    assert code == 2
    assert "batch.size: makes a trial need about" in said
    assert "this machine has 1 GB free" in said
    assert "large" not in names(mudman)
    code, _, said = submit("--model", str(own), "--set", "name=two", "--set", "resources.max_concurrent=2")
    assert (code, "too little for 2 at once: lower resources.max_concurrent" in said) == (0, True)
    code, _, said = submit("--model", str(own), "--set", "name=card", "--set", "resources.gpus=0.25")
    assert (code, "at its peak, on 0.25 of a card" in said) == (0, True)


def test_a_folder_that_the_service_may_not_read(submit, tmp_path):
    shutil.copytree(packaged.MODELS["tiny-llama"].path, tmp_path / "elsewhere")
    code, _, said = submit("--model", str(tmp_path / "elsewhere"))
    assert (code, "lies outside the data root" in said, "MUDMAN_DATA_ROOT" in said) == (2, True, True)
