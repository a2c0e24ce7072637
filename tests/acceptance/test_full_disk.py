"""The whole embedded system on a small disk of its own: too small to begin on, and one that fills up on the way."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from embedded_system import System, simulated

from service.client import Client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@pytest.fixture
def system() -> Iterator[System]:
    one = System()
    yield one
    try:
        one.close()
    finally:
        subprocess.run(["umount", "--lazy", one.state_dir], capture_output=True)
        shutil.rmtree(one.state_dir, ignore_errors=True)


def on_a_disk_of(system: System, size: str) -> None:
    """The state folder: database, logs, secrets and kept checkpoints."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", system.state_dir])
    if done.returncode:
        pytest.skip("this machine lets nobody mount a file system")


def postmaster(system: System) -> int:
    return int((system.state_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def ended(supervisor: subprocess.Popen) -> None:
    supervisor.terminate()
    assert supervisor.wait(60) == 0


def test_a_disk_that_is_too_small_is_refused_at_once_and_left_as_it_was(system: System):
    """A fresh database of Postgres 18 takes 41 MB."""
    on_a_disk_of(system, "20m")
    said = system.run("up", "--port", "0", timeout=60)
    assert said.returncode == 1
    assert "The disk is full. Remedy: free some space for" in said.stderr
    assert "Traceback" not in said.stderr
    system.nothing_left(10)
    subprocess.run(["mount", "-o", "remount,size=300m", system.state_dir], check=True)
    supervisor = system.start("up", "--port", "0")
    system.endpoint(supervisor)
    ended(supervisor)


@pytest.mark.long
def test_a_disk_that_fills_up_only_delays(system: System):
    """For longer than what dies again and again is given: results wait in the runner, also while Postgres is down."""
    on_a_disk_of(system, "120m")
    supervisor = system.start("up", "--port", "0")
    with Client(system.endpoint(supervisor).url) as client:
        study_id = client.submit(simulated("no room", seconds=1.0, trials=12))["id"]
        system.wait(lambda: client.study(study_id)["progress"]["trials"] >= 2, 60)
        ballast = system.state_dir / "ballast"
        with ballast.open("wb", 0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 2**16)
        os.kill(postmaster(system), signal.SIGKILL)  # a full disk stops the next one from starting
        until = time.monotonic() + 15
        while time.monotonic() < until:
            assert supervisor.poll() is None, supervisor.stdout.read()
            time.sleep(0.5)
        ballast.unlink()
        system.wait(lambda: client.study(study_id)["state"] == "completed", 120)
        trials = list(client.trials(study_id))
    assert [(t["ordinal"], t["attempt"], t["outcome"]) for t in trials] == [(n, 1, "valid") for n in range(12)]
    ended(supervisor)
