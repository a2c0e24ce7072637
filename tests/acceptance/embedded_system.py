"""The embedded system as a user starts it, and a look at every process that belongs to it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service import endpoint
from service.client import Client
from workers.embedded.instance import runtime_folder

MUDMAN = str(Path(sys.executable).with_name("mudman"))


def simulated(name: str, seconds: float = 0.2, trials: int = 4, outcome: str = "valid") -> dict[str, Any]:
    """A study whose trials need no torch and take ``seconds`` each."""
    return {
        "name": name,
        "model": {"id": "simulated"},
        "labels": {"seconds": str(seconds), "outcome": outcome},
        "forget": {"corpus": "python-functions"},
        "retain": {"corpus": "wikipedia"},
        "method": {
            "type": "mudman",
            "target_modules": ["gate_proj"],
            "unlearning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
        },
        "attack": {"rate": 1e-2, "passes": 60},
        "budget": {"unlearn_passes": 150, "trials": trials},
        "resources": {"max_concurrent": 2},
    }


class System:
    """Commands over one state folder; ``close`` fails if a process is left, after ending it."""

    def __init__(self, **more: str) -> None:
        """``more``: variables of its commands."""
        self.more = more
        self.state_dir = Path(tempfile.mkdtemp(prefix="mudman-test-", dir="/tmp"))
        self.state_dir.chmod(0o711)  # root's Postgres runs as ``nobody``
        self._started: list[subprocess.Popen] = []

    def start(self, *arguments: str, **settings: object) -> subprocess.Popen:
        """A command that goes on, with its output in one pipe; in a session of its own, as from another terminal."""
        process = subprocess.Popen(
            [MUDMAN, *arguments],
            env=self.environment() | {f"MUDMAN_{name.upper()}": str(value) for name, value in settings.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, given: str = "", timeout: float = 120) -> subprocess.CompletedProcess:
        return subprocess.run(
            [MUDMAN, *arguments],
            env=self.environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def endpoint(self, process: subprocess.Popen, within: float = 120) -> endpoint.Endpoint:
        """Where it listens, once it is ready."""
        self.wait(lambda: process.poll() is not None or endpoint.read(self.state_dir) is not None, within)
        assert process.poll() is None, process.stdout.read()
        return endpoint.read(self.state_dir)

    def wait(self, condition: Callable[[], object], within: float) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within:g} s"
            time.sleep(0.05)

    def processes(self) -> dict[int, str]:
        """Everything alive that has the state folder in its environment, its arguments or as its place."""
        marks = [str(self.state_dir).encode(), str(runtime_folder(self.state_dir)).encode()]
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    arguments = (folder / "cmdline").read_bytes()
                    about = arguments + (folder / "environ").read_bytes() + os.readlink(folder / "cwd").encode()
                except OSError:
                    continue  # ended meanwhile, or another user's
                if any(mark in about for mark in marks):
                    found[int(folder.name)] = arguments.replace(b"\0", b" ").decode(errors="replace")[:200]
        return found

    def nothing_left(self, within: float) -> None:
        self.wait_or_tell(lambda: not self.processes(), within)

    def wait_or_tell(self, condition: Callable[[], object], within: float) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"left after {within:g} s: {self.processes()}"
            time.sleep(0.1)

    def close(self) -> None:
        left = self.processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self._started:
            process.wait(20)
            process.stdout.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)
        shutil.rmtree(runtime_folder(self.state_dir), ignore_errors=True)
        assert not left, left

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.upper().startswith("MUDMAN_")}
        # Short leases: what a killed system held is taken over sooner.
        return mine | {
            "MUDMAN_STATE_DIR": str(self.state_dir),
            "MUDMAN_DATA_ROOT": str(self.state_dir),
            "MUDMAN_LEASE_RENEWAL": "1",
            "MUDMAN_LEASE_EXPIRY": "5",
            # Two that start at once would both find the usual one free.
            "MUDMAN_PORT": "0",
            # The user's own token is none of it.
            "XDG_CONFIG_HOME": str(self.state_dir / "configuration"),
            **self.more,
        }


def running(client: Client, study_id: str) -> bool:
    return bool(client.study(study_id)["progress"]["live"])
