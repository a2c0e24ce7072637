"""What the embedded system runs beside Postgres: commands, environments, and how long each may take to stop."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mudman import artifacts
from service.store.settings import Settings
from workers import lifeline
from workers.embedded import log_files
from workers.embedded.instance import processors
from workers.embedded.processes import die_with_parent

OBJECT_STORE_BYTES = 200_000_000
"""Trials exchange dictionaries; Ray's own default, 30 % of the memory, is for data sets."""
_SECRETS = {"database_url", "database_url_file", "token", "token_file"}
"""Settings of whoever starts the system that its processes do not get, and no trial sees."""


@dataclass
class Child:
    """A process of the system. It dies with the supervisor, and Ctrl-C at the terminal does not reach it."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    lifeline_descriptor: int
    dies_by: signal.Signals = signal.SIGKILL
    """Signal when the supervisor is gone."""
    stops_within: float = 3.0
    """Seconds between SIGTERM and SIGKILL."""
    process: subprocess.Popen | None = None
    _log_start: int = field(default=0, repr=False)

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env={**self.environment, lifeline.VARIABLE: str(self.lifeline_descriptor)},
                pass_fds=(self.lifeline_descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(self.dies_by),
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.alive():
            self.process.terminate()

    def kill(self) -> None:
        if self.alive():
            self.process.kill()
            self.process.wait()

    def words(self) -> str:
        """The end of what it logged since its last start."""
        return log_files.tail(self.log, self._log_start)


@dataclass(frozen=True)
class Plan:
    """Everything that the children are told."""

    settings: Settings
    port: int
    ray_port: int
    runtime: Path
    lifeline_descriptor: int

    @property
    def logs(self) -> Path:
        return self.settings.state_dir / "logs"

    @property
    def database_url_file(self) -> Path:
        return self.settings.state_dir / "database-url"

    @property
    def ray_folder(self) -> Path:
        return self.runtime / "ray"

    @property
    def ray_address(self) -> str:
        return f"127.0.0.1:{self.ray_port}"

    def ray_is_up(self) -> bool:
        """Ray writes its address there once the head's processes run (what ``address="auto"`` reads)."""
        return (self.ray_folder / "ray_current_cluster").exists()

    def migration(self) -> Child:
        return self._child("migration", [sys.executable, "-m", "service.store.migrate"], self._ours())

    def api(self) -> Child:
        return self._child("api", [sys.executable, "-m", "service"], self._ours())

    def dispatcher(self) -> Child:
        """It needs two seconds beyond its own patience with its runners."""
        return self._child(
            "dispatcher", [sys.executable, "-m", "workers", "dispatcher"], self._ours(), stops_within=14.0
        )

    def ray(self) -> Child:
        """The wrapper ends Ray's many processes, also when the supervisor is killed; SIGTERM lets it do so."""
        command = [sys.executable, "-m", "workers.embedded.child", "--"]
        command += [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += ["--node-ip-address", "127.0.0.1", "--port", str(self.ray_port)]
        command += ["--temp-dir", str(self.ray_folder), "--num-cpus", str(processors())]
        command += ["--object-store-memory", str(OBJECT_STORE_BYTES), "--disable-usage-stats"]
        command += ["--include-dashboard", "false", "--include-log-monitor", "false", "--log-style", "record"]
        # For trials: mudman.heap and mudman.precision say why.
        environment = self._environment() | {"MALLOC_ARENA_MAX": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        return self._child("ray", command, environment, dies_by=signal.SIGTERM, stops_within=5.0)

    def write_ray_token(self) -> None:
        write_secret(self._ray_token, secrets.token_hex(32))

    @property
    def _ray_token(self) -> Path:
        return self.settings.state_dir / "ray-token"

    def _child(self, name: str, command: list[str], environment: dict[str, str], **options) -> Child:
        log = self.logs / f"{name}.log"
        return Child(name, command, environment, log, self.lifeline_descriptor, **options)

    def _environment(self) -> dict[str, str]:
        """For Ray: no way to the database, a token that keeps other users of this machine out, loopback only."""
        withheld = {f"MUDMAN_{name.upper()}" for name in _SECRETS}
        inherited = {name: value for name, value in os.environ.items() if name.upper() not in withheld}
        return inherited | {
            "MUDMAN_DATA_ROOT": str(self.settings.data_root),
            artifacts.VARIABLE: self.settings.artifacts or str(self.settings.state_dir / "artifacts"),
            "MUDMAN_LOG_LEVEL": self.settings.log_level,
            "MUDMAN_LOG_FORMAT": self.settings.log_format,
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._ray_token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray listens on every interface, even with --node-ip-address 127.0.0.1, unless it believes that clusters
            # are off; with this, all its servers listen on loopback (tried with 2.60).
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    def _ours(self) -> dict[str, str]:
        """For API, dispatcher and migration: every setting as the supervisor resolved it."""
        values = {
            **self.settings.model_dump(mode="json", exclude={*_SECRETS, "artifacts"}),
            "port": self.port,
            "ray_address": self.ray_address,
            "database_url_file": self.database_url_file,
            "resource_grace": 0.0,  # the one node does not grow
        }
        return self._environment() | {f"MUDMAN_{name.upper()}": _as_variable(value) for name, value in values.items()}


def _as_variable(value: Any) -> str:
    """As settings read it: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def write_secret(path: Path, text: str) -> None:
    """A file that only its owner can read, at no moment otherwise."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
