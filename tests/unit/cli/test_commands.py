"""The console script without a server: help, words, exit codes, and how light it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mudman import presets
from mudman.documents import read_yaml
from mudman.specs import parse
from mudman.specs.comparison import parse_comparison
from service.cli import _run
from workers.embedded.instance import free_port

MUDMAN = str(Path(sys.executable).with_name("mudman"))


@pytest.fixture
def mudman(tmp_path: Path):
    """Runs a command in an empty folder, against a port where nothing listens."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("MUDMAN_")}
    environment |= {"MUDMAN_STATE_DIR": str(tmp_path / "state"), "MUDMAN_URL": f"http://127.0.0.1:{free_port()}"}

    def run(*arguments: str, given: str = "", **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [MUDMAN, *arguments],
            env=environment | variables,
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_help_names_every_command(mudman):
    done = mudman("--help")
    assert done.returncode == 0
    known = ["up", "demo", "submit", "ls", "watch", "best", "cancel", "trial", "config", "presets"]
    known += ["compare", "table", "comparisons", "pause", "resume", "extend", "retry", "enqueue", "delete", "events"]
    for command in known:
        assert f"  {command} " in done.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys, service.cli; "
        "heavy = {'torch', 'ray', 'optuna', 'sqlalchemy', 'fastapi', 'httpx', 'transformers'}; "
        "sys.stdout.write(', '.join(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("command", ["up", "demo"])
def test_help_of_started_programs_is_theirs(mudman, command: str):
    done = mudman(command, "--help")
    assert done.returncode == 0
    assert f"usage: mudman {command}" in done.stdout
    assert "--port" in done.stdout


def test_nothing_listens(mudman):
    for arguments in (["ls"], ["submit", "quickstart"], ["table", "masks"]):
        done = mudman(*arguments)
        assert done.returncode == 1, arguments
        assert "nothing listens at http://127.0.0.1:" in done.stderr
        assert "mudman up" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_that_is_none(mudman):
    done = mudman("ls", "--url", "localhost:8080")
    assert done.returncode == 1
    assert "no address" in done.stderr


def test_neither_file_nor_preset_suggests_close_ones(mudman, tmp_path: Path):
    (tmp_path / "smol-study.yaml").write_text("name: x\n")
    done = mudman("submit", "quikstart")
    assert (done.returncode, "did you mean quickstart?" in done.stderr) == (2, True)
    done = mudman("submit", "smol-stdy.yaml")
    assert (done.returncode, "did you mean smol-study.yaml?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [\n", "is not valid YAML at line 2"),
        ("- a\n- b\n", "no mapping of fields"),
        ("", "no mapping of fields"),
    ],
)
def test_documents_that_are_no_spec(mudman, text: str, words: str):
    done = mudman("submit", "-", given=text)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_is_no_spec_file(mudman, tmp_path: Path):
    done = mudman("submit", str(tmp_path))
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)


def test_a_change_needs_path_and_value(mudman):
    done = mudman("submit", "quickstart", "--set", "budget.trials")
    assert (done.returncode, "PATH=VALUE" in done.stderr) == (2, True)


def test_only_presets_have_variants_to_choose(mudman, tmp_path: Path):
    (tmp_path / "masks.yaml").write_text("name: x\nvariants: {a: {}}\n")
    done = mudman("submit", "masks.yaml", "--variant", "a")
    assert (done.returncode, "mudman compare" in done.stderr) == (2, True)


def test_unknown_command_and_option(mudman):
    assert mudman("sumbit").returncode == 2
    assert mudman("ls", "--jsn").returncode == 2


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        ("missing/x.svg", 1, "there is no folder missing"),
        ("text/x.svg", 1, "there is no folder text"),
        ("folder.svg", 2, "is a directory"),
    ],
)
def test_where_nothing_can_be_written_no_server_is_asked(mudman, tmp_path: Path, file, code, words):
    (tmp_path / "text").write_text("no folder")
    (tmp_path / "folder.svg").mkdir()
    for arguments in (["figure", "searched", "history"], ["export", "searched"]):
        done = mudman(*arguments, file)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_no_export_is_not_verified(mudman, tmp_path: Path):
    (tmp_path / "trials.parquet").write_bytes(b"PAR1\xff")
    done = mudman("verify", "trials.parquet")
    assert (done.returncode, "it is neither JSON nor a bundle" in done.stderr) == (1, True), done.stderr
    assert "mudman export ID FILE" in done.stderr
    (tmp_path / "cut.json").write_text('{"format": ')
    done = mudman("verify", "cut.json")
    assert (done.returncode, "is not valid JSON at line 1" in done.stderr) == (2, True), done.stderr
    assert "submitted" not in done.stderr
    done = mudman("verify", str(tmp_path))
    assert (done.returncode, "is a directory" in done.stderr) == (2, True), done.stderr


def test_config_tells_origins(mudman):
    done = mudman("config", "--json", MUDMAN_PORT="9009")
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    assert (rows["port"]["value"], rows["port"]["origin"]) == (9009, "environment MUDMAN_PORT")
    assert rows["host"]["origin"] == "default"
    done = mudman("config", MUDMAN_DATABASE_URL="postgresql://u:hunter2@h/d")
    assert "MUDMAN_DATABASE_URL" in done.stdout
    assert "hunter2" not in done.stdout


def test_config_with_a_wrong_value(mudman):
    done = mudman("config", MUDMAN_PORT="high")
    assert (done.returncode, "environment MUDMAN_PORT" in done.stderr) == (2, True)


def test_presets(mudman):
    assert "quickstart" in [row["name"] for row in json.loads(mudman("presets", "--json").stdout)]
    printed = mudman("presets", "quickstart").stdout
    assert "name: quickstart" in printed
    compared = next(row["name"] for row in json.loads(mudman("presets", "--json").stdout) if row["compares"])
    assert "variants:" in mudman("presets", compared).stdout
    assert mudman("presets", "nope").returncode == 2


@pytest.mark.parametrize("name", presets.names())
def test_a_printed_preset_can_be_posted(name, capsys):
    assert _run(["presets", name]) == 0
    document = read_yaml(capsys.readouterr().out)
    meant = parse_comparison(document) if presets.about(name).kind == "comparison" else parse(document)
    assert meant.name == name
