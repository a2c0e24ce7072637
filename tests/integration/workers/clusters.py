"""Private Ray clusters of real processes on this host: a head and as many nodes as a test needs."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from workers.embedded.instance import free_port

QUICK = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1500",
    "RAY_health_check_failure_threshold": "4",
}
"""Of a head that sees within some ten seconds that a node is cut off, and that a busy machine does not deceive."""


@dataclass
class Cluster:
    """``address`` and ``environment`` are what a driver needs."""

    folder: Path
    address: str
    environment: dict[str, str]
    inside: tuple[str, ...] = ()
    """Command that puts the head into a network namespace of its own."""
    _started: list[subprocess.Popen] = field(default_factory=list)

    def head(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Started, and answering. Two cores unless the arguments say otherwise."""
        host, port = self.address.split(":")
        place = ("--head", "--port", port, "--node-ip-address", host, "--include-dashboard", "false")
        cpus = () if "--num-cpus" in arguments else ("--num-cpus", "2")
        # Every head has a folder of its own: it keeps nothing of the one before.
        folder = self.folder / f"r{len(self._started)}"
        process = self._start(self.inside, (*place, *cpus, "--temp-dir", str(folder), *arguments), environment)
        self._await(process, ("Ray runtime started", "--block"))
        return process

    def node(self, *arguments: str, inside: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        """Started; it joins when it is ready."""
        return self._start(inside, ("--address", self.address, *arguments), environment)

    def _start(self, inside: tuple[str, ...], arguments: tuple[str, ...], more: dict[str, str]) -> subprocess.Popen:
        ray = Path(sys.executable).with_name("ray")
        command = [*inside, ray, "start", "--block", "--object-store-memory", str(100 * 2**20), *arguments]
        with self._log(len(self._started)).open("wb") as log:
            process = subprocess.Popen(
                command, env=os.environ | self.environment | more, stdout=log, stderr=log, start_new_session=True
            )
        self._started.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self.folder / f"log{number}"

    def _await(self, process: subprocess.Popen, signs: tuple[str, ...]) -> None:
        log, deadline = self._log(self._started.index(process)), time.monotonic() + 90
        while signs[0] not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)

    def end(self) -> None:
        for process in self._started:
            kill(process)


def kill(process: subprocess.Popen) -> None:
    """With -9, everything of it: nothing is worth a graceful end, which takes Ray twenty seconds."""
    for pid in members(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def members(leader: int) -> list[int]:
    """What is left of the session that ``leader`` led."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == leader:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def part(process: subprocess.Popen, name: str) -> int:
    """Process id of Ray's ``raylet`` or ``gcs_server`` below the process."""
    for pid in members(process.pid):
        try:
            if Path(os.readlink(f"/proc/{pid}/exe")).name == name:
                return pid
        except FileNotFoundError:
            continue
    raise LookupError(name)


@contextmanager
def cluster(host: str = "127.0.0.1", port: int | None = None, inside: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """Not started yet. With a token; every process of it ends with the block."""
    # A short path: Ray keeps its sockets below it, and their names are long already.
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    made = Cluster(folder, f"{host}:{port or free_port()}", environment, inside)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
