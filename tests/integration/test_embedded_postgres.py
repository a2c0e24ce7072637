"""The embedded Postgres: made, restarted, refused, and never left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from workers.embedded import binaries
from workers.embedded.data_folder import PostgresFailed
from workers.embedded.postgres import Postgres, temporary
from workers.embedded.processes import parents


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with temporary() as postgres:
        yield postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user who runs Postgres under root may pass through; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="mudman-test-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def value(postgres: Postgres, statement: str):
    with psycopg.connect(postgres.url()) as connection:
        return connection.execute(statement).fetchone()[0]


def test_it_answers_and_speaks_utc_and_utf8(server: Postgres):
    assert value(server, "show server_version").startswith("18.")
    assert value(server, "show timezone") == "UTC"
    assert value(server, "show server_encoding") == "UTF8"
    assert value(server, "select current_database()") == "mudman"


def test_without_the_password_nobody_gets_in(server: Postgres):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url().replace(server.folder.password(), "guessed"))


def test_root_runs_it_as_somebody_else(server: Postgres):
    uid = Path(f"/proc/{server.process.pid}").stat().st_uid
    assert uid != 0
    assert uid == os.geteuid() or os.geteuid() == 0


def test_it_is_started_again_over_the_same_data_after_kill_9(server: Postgres):
    with psycopg.connect(server.url()) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (7)")
    server.process.kill()
    server.process.wait()
    server.start()
    server.wait()
    assert value(server, "select n from kept") == 7


@pytest.fixture
def stopped(folder: Path) -> Postgres:
    """A server that has run once."""
    postgres = Postgres(folder / "postgres", durable=False)
    postgres.start()
    postgres.wait()
    postgres.stop()
    return postgres


def test_data_of_another_major_version_is_refused_and_left_alone(stopped: Postgres):
    stamp = stopped.folder.data / "PG_VERSION"
    stamp.write_text("16\n")
    with pytest.raises(PostgresFailed) as caught:
        stopped.start()
    assert "written by Postgres 16; this is Postgres 18" in str(caught.value)
    assert f"mv {stopped.folder.data} {stopped.folder.data}-16" in str(caught.value)
    assert (stopped.folder.data / "base").is_dir()


def test_a_stale_pid_file_whose_number_lives_again_is_no_obstacle(stopped: Postgres):
    """After a reboot any process may have the number; this one runs as the server's own user, which Postgres minds."""
    other = subprocess.Popen(["sleep", "60"], cwd="/", **binaries.child_options(stopped.folder.run_as))
    try:
        lines = [str(other.pid), str(stopped.folder.data), "1", "5432", "/tmp", "", "0 0", "ready"]
        pid_file = stopped.folder.data / "postmaster.pid"
        pid_file.write_text("\n".join(lines) + "\n")
        stopped.folder.give(pid_file)
        stopped.start()
        stopped.wait(20)
        assert value(stopped, "select 1") == 1
    finally:
        stopped.stop()
        other.kill()
        other.wait()


def test_a_lost_password_is_said(stopped: Postgres):
    (stopped.folder.folder / "password").write_text("another")
    stopped.start()
    try:
        with pytest.raises(PostgresFailed, match="refuses the password"):
            stopped.wait(20)
    finally:
        stopped.stop()


def test_half_made_data_is_made_again(folder: Path):
    partial = folder / "postgres" / "data.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    postgres = Postgres(folder / "postgres", durable=False)
    postgres.start()
    try:
        postgres.wait()
    finally:
        postgres.stop()
    assert not partial.exists()


def test_it_ends_when_its_parent_is_killed(folder: Path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from workers.embedded.postgres import Postgres\n"
        f"folder = Path({str(folder)!r})\n"
        "postgres = Postgres(folder / 'postgres', sockets=folder / 's', durable=False)\n"
        "postgres.start(); postgres.wait()\n"
        "print(postgres.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    below = {server} | {pid for pid, of in parents().items() if of == server}
    assert len(below) > 3  # checkpointer, writer, ...
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while below & set(parents()):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)
    assert not (folder / "postgres" / "data" / "postmaster.pid").exists()  # it shut down in order


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PostgresFailed, match="MUDMAN_STATE_DIR"):
        Postgres(tmp_path / "file" / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_root_is_told_which_folder_is_closed_to_the_server(folder: Path):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresFailed, match=f"may not enter {closed}"):
        Postgres(closed / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_binaries_in_a_closed_folder_are_copied_once(folder: Path):
    closed = folder / "closed"
    package = binaries.packaged().parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    closed.chmod(0o700)
    installation = closed / package.name / "pginstall"
    postgres = Postgres(folder / "postgres", durable=False, installation=installation)
    for _ in range(2):
        postgres.start()
        postgres.wait()
        assert value(postgres, "select 1") == 1
        postgres.stop()
    assert len(list((folder / "postgres").glob("binaries-*"))) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_said(folder: Path):
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        small.chmod(0o755)
        with pytest.raises(PostgresFailed, match="The disk is full"):
            Postgres(small / "postgres", durable=False).start()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
