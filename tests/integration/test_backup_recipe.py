"""Backup and restore as the operators' document says it, but for the container: its shell is one of this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_leases import submit

from service.store import studies
from service.store.database import Database

README = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()


def recipe(starts: str) -> str:
    [found] = re.findall(rf"^\| {starts}[^|]*\| `([^`]+)`", README, re.MULTILINE)
    return found


@pytest.fixture
def shell(tmp_path):
    """Runs a recipe against a database, in a folder of its own, as somebody whose files others may read."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\n[ "$*" ] && shift 4 && umask 022 && exec "$@"\n')  # compose exec -T dispatcher
    docker.chmod(0o755)
    (tmp_path / "within").mkdir()

    def run(command: str, database: Database) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MUDMAN_")}
        environment |= {
            "PATH": f"{docker.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
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


def test_what_is_backed_up_can_be_restored_and_nobody_else_reads_it(shell, new_database, tmp_path):
    there, here = new_database(), new_database()
    study_id = submit(there)
    shell(recipe("back up"), there)
    assert (tmp_path / "mudman.dump").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "within").iterdir()) == []
    shell(recipe("restore"), here)
    assert list((tmp_path / "within").iterdir()) == []
    with here.begin() as session:
        assert studies.get(session, study_id).name == "study"
