"""``python -m mudman trial``: exit codes, what is printed, and what a user reads when something is wrong."""

import json
import subprocess
import sys

import pytest
from studies import SMALL

from mudman.__main__ import main
from mudman.results import Outcome, TrialResult

QUICK = {**SMALL, "budget": {"unlearn_passes": 10, "trials": 1}, "attack": {"rate": 0.01, "passes": 4}}


@pytest.fixture
def spec(tmp_path):
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(QUICK))
    return str(file)


def test_the_command_as_typed(tmp_path):
    (tmp_path / "simulated.json").write_text(json.dumps({**QUICK, "model": {"id": "simulated"}}))
    command = [sys.executable, "-m", "mudman", "trial"]
    good = subprocess.run([*command, "simulated.json", "--json"], capture_output=True, text=True, cwd=tmp_path)
    bad = subprocess.run([*command, "missing.json"], capture_output=True, text=True, cwd=tmp_path)

    assert (good.returncode, TrialResult.model_validate_json(good.stdout).outcome) == (0, Outcome.VALID), good.stderr
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "there is no file missing.json" in bad.stderr


def test_json_is_the_whole_result(spec, capsys):
    assert main(["trial", spec, "--json", "-p", "unlearning_rate=0.003"]) == 0
    result = TrialResult.model_validate_json(capsys.readouterr().out)
    assert result.relearning.passes == (0, 4)
    assert result.value == result.forget_loss_min


def test_a_table_is_shown_to_people(spec, capsys):
    assert main(["trial", spec]) == 0
    out, err = capsys.readouterr()
    assert "attacked (minimum)" in out
    assert "outcome valid" in out
    assert "14 passes booked, 14 made" in out
    assert "4/4 passes" in err


def test_ranges_without_a_value_take_their_middle(spec, capsys):
    main(["trial", spec, "--json"])
    middle = TrialResult.model_validate_json(capsys.readouterr().out)
    main(["trial", spec, "--json", "-p", f"unlearning_rate={1e-5**0.5!r}"])
    chosen = TrialResult.model_validate_json(capsys.readouterr().out)
    assert middle.value == chosen.value


def test_the_spec_may_be_changed_first(spec, capsys):
    changes = [
        "--set",
        "attack.passes=2",
        "--set",
        "method.unlearning_rate=1e-3",
        "--set",
        "batch={size: 1, length: 8}",
    ]
    assert main(["trial", spec, "--json", *changes]) == 0
    assert TrialResult.model_validate_json(capsys.readouterr().out).relearning.passes == (0, 2)


def test_yaml_and_presets_are_read(tmp_path, capsys):
    file = tmp_path / "spec.yaml"
    file.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in QUICK.items()))
    assert main(["trial", str(file), "--json"]) == 0
    small = ["--set", "budget.unlearn_passes=5", "--set", "attack.passes=2", "--set", "batch={size: 1, length: 8}"]
    assert main(["trial", "quickstart", "--json", *small]) in (0, 1)


@pytest.mark.parametrize(
    ("rate", "outcome"), [("0.5", Outcome.OVER_RETAIN_BUDGET), ("1e38", Outcome.DIVERGED)]
)  # fmt: skip
def test_a_trial_that_ends_otherwise_exits_with_1(rate, outcome, spec, capsys):
    tight = ["--set", "constraint={retain_loss_increase: 0.01}"]
    assert main(["trial", spec, "--json", "-p", f"unlearning_rate={rate}", *tight]) == 1
    assert TrialResult.model_validate_json(capsys.readouterr().out).outcome is outcome


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "there is no file missing.yaml"),
        (["no-such-preset"], "there is no preset 'no-such-preset'. Remedy: `mudman presets` lists them"),
        (["bad.yaml"], "is not valid YAML at line 2"),
        (["bad.json"], "is not valid JSON at line 2"),
        (["latin.yaml"], "latin.yaml cannot be read"),
        (["empty.yaml"], "must be a mapping of fields"),
        (["markup.yaml"], "[/red]: extra inputs are not permitted"),
        (["{spec}", "--set", "budget.trials=0"], "budget.trials: input should be greater than or equal to 1"),
        (["{spec}", "--set", "attack.passes=[1"], "is not valid YAML"),
        (["{spec}", "--set", "model.id=tiny-lama"], "did you mean 'tiny-llama'"),
        (["{spec}", "--set", "model.id=[/x]"], "model.id: "),
        (["{spec}", "--set", "forget.corpus=./missing"], "forget.corpus: there is no ./missing"),
        (["{spec}", "--set", "method.target_modules=[gate]"], "no module of this model is named 'gate'"),
        (["{spec}", "--set", "batch.size=4096"], "forget.corpus: python-functions is too short"),
        (["{spec}", "-p", "unlearning_rte=1"], "method.unlearning_rte: is no number of this method"),
        (["{spec}", "-p", "unlearning_rate=nan"], "method.unlearning_rate: input should be a finite number"),
        (["{spec}", "-p", "unlearning_rate=-1"], "method.unlearning_rate: must be at least 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_exits_with_2_and_says_the_remedy(arguments, words, spec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("a: 1\nb: [")
    (tmp_path / "bad.json").write_text('{"a": 1,\n}')
    (tmp_path / "latin.yaml").write_bytes("name: köln".encode("latin-1"))
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "markup.yaml").write_text("'[/red]': 1")

    assert (
        main(["trial", *(argument.format(spec=spec) if "{spec}" in argument else argument for argument in arguments)])
        == 2
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Remedy: " in err
    assert "Traceback" not in err


def test_all_names_that_lead_nowhere_are_told_at_once(spec, capsys):
    wrong = ["--set", "model.id=./m", "--set", "forget.corpus=./f", "--set", "retain.corpus=wikpedia"]
    assert main(["trial", spec, *wrong]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["model.id", "forget.corpus", "retain.corpus"]


@pytest.mark.parametrize(
    "arguments", [[], ["trial"], ["trial", "x.yaml", "-p", "rate"], ["trial", "x.yaml", "--set", "rate"], ["train"]]
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: mudman" in capsys.readouterr().err
