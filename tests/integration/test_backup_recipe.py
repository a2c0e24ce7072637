"""Backup and restore as the operators' documents say it, but for the container: its shell is one of this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_leases import submit

from service.store import studies
from service.store.database import Database

DEPLOY = Path(__file__).parents[2] / "deploy"


def recipe(document: str, starts: str) -> str:
    [found] = re.findall(rf"^\| {starts}[^|]*\| `([^`]+)`", (DEPLOY / document).read_text(), re.MULTILINE)
    return found


@pytest.fixture
def shell(tmp_path):
    """Runs a recipe against a database, in a folder of its own, as somebody whose files others may read."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, service in (("docker", "dispatcher"), ("kubectl", "--")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nuntil [ "$1" = {service} ]; do shift; done\nshift\numask 022\nexec "$@"\n')
        program.chmod(0o755)
    (tmp_path / "within").mkdir()

    def run(command: str, database: Database) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MUDMAN_")}
        environment |= {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path / "within"),
            "MUDMAN_DATABASE_URL": database.url,
            "MUDMAN_STATE_DIR": str(tmp_path / "state"),
        }
        done = subprocess.run(
            ["sh", "-c", f"umask 022; {command}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.parametrize("document", ["README.md", "kubernetes/README.md"])
def test_what_is_backed_up_can_be_restored_and_nobody_else_reads_it(shell, new_database, tmp_path, document):
    there, here = new_database(), new_database()
    study_id = submit(there)
    shell(recipe(document, "back up"), there)
    assert (tmp_path / "mudman.dump").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "within").iterdir()) == []
    shell(recipe(document, "restore"), here)
    assert list((tmp_path / "within").iterdir()) == []
    with here.begin() as session:
        assert studies.get(session, study_id).name == "study"
