"""``python -m workers demo``: from nothing to the result of the quickstart study, everything over REST.

Uses the system of the state folder if one runs; otherwise starts one, and stops it at the end.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from mudman import presets
from mudman.documents import read_yaml
from mudman.faults import MudmanError
from mudman.specs import parse
from service import endpoint
from service.calling.api import FINISHED
from service.cli import display, failures
from service.cli.watching import duration, follow, outcomes
from service.client import Client, Refused, Unreachable
from service.store.settings import Settings
from workers.embedded import instance, up
from workers.embedded.log_files import tail
from workers.embedded.processes import die_with_parent
from workers.embedded.supervisor import StartFailed

_STOPS_WITHIN = 30.0


def main(argv: list[str]) -> int:
    """Exit codes: 0 done, 1 the study failed or the system cannot run, 2 wrong usage or bad input, 130 interrupted."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    system: _System | None = None
    try:
        flags = {name: getattr(options, name) for name in ("host", "port", "state_dir", "data_root")}
        document = _document(options)
        system = _System(Settings(**flags), flags)
        return _run(system, document, options.keep, console)
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    except MudmanError as error:
        return failures.explain(error)
    finally:
        if system is not None:
            system.stop(console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mudman demo", description="Run the quickstart study here, from nothing to its result."
    )
    up.options(parser)
    parser.add_argument("--keep", action="store_true", help="keep the system running afterwards, until Ctrl-C")
    parser.add_argument("--preset", default="quickstart", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser


def _document(options: argparse.Namespace) -> dict[str, Any]:
    """A request body without its name: the preset with overrides, or a whole spec."""
    if options.file is None:
        return {"preset": options.preset, "overrides": {"name": presets.load(options.preset)["name"]}}
    try:
        document = read_yaml(options.file.read_text("utf-8"))
    except OSError as error:
        raise MudmanError(f"cannot read {options.file}: {error.strerror}. Remedy: name a spec file") from None
    parse(document)  # what is wrong is said before anything is started
    return document


def _run(system: "_System", document: dict[str, Any], keep: bool, console: Console) -> int:
    started = time.monotonic()
    url = system.start(console)
    with Client(url, patience=20) as client:
        study = _submit(client, document)
        console.print(f"study {study['name']} is submitted: {url}{study['links']['self']}", markup=False)
        study = follow(client, study["id"], console, check=system.check)
        if study["state"] != "completed":
            display.ended(study, json_wanted=False)
            return 1
        found = client.best(study["id"])
        console.print()
        display.best(study, found, json_wanted=False)
        progress = study["progress"]
        took = duration(time.monotonic() - started)
        console.print(f"\n{progress['trials']} trials ({outcomes(progress['outcomes'])}) in {took}", markup=False)
        where = f"{url}{study['links']['self']} (or `mudman best {study['name']}`)"
        if system.is_ours and not keep:
            console.print(f"The system stops now. To look further: `make up`, then {where}", markup=False)
            return 0
        console.print(f"Look further: {where}", markup=False)
        if system.is_ours:
            console.print("The system keeps running; Ctrl-C stops it.")
            while True:
                system.check()
                time.sleep(0.5)
    return 0


def _submit(client: Client, document: dict[str, Any]) -> dict[str, Any]:
    """Submit under the first name that is free; a study of the same spec that is under way is joined."""
    fields = document.get("overrides", document)
    base = str(fields.get("name", "demo"))
    for number in itertools.count(1):
        fields["name"] = base if number == 1 else f"{base}-{number}"
        try:
            study = client.submit(document)
        except Refused as error:
            if error.status == 409:
                continue  # the name belongs to another spec
            raise
        if study["state"] not in FINISHED:
            return study
    raise AssertionError("itertools.count ended")


class _System:
    """The running system of the state folder, ours or somebody else's."""

    def __init__(self, settings: Settings, flags: dict[str, Any]):
        self._settings = settings
        self._flags = flags
        self._supervisor: subprocess.Popen | None = None
        self._log = settings.state_dir / "logs" / "supervisor.log"
        self._log_start = 0

    @property
    def is_ours(self) -> bool:
        return self._supervisor is not None

    def start(self, console: Console) -> str:
        """The address of the API. Raises ``StartFailed`` with the supervisor's own words."""
        found = endpoint.read(self._settings.state_dir)
        if found and _lives(found.pid) and _answers(found.url):
            console.print(f"using the system that runs at {found.url}", markup=False)
            return found.url
        self._spawn()
        said = 0
        with console.status("starting Postgres, API, dispatcher and Ray"):
            while True:
                lines = self._words().partition("error: ")[0].splitlines()
                for line in lines[said:]:
                    console.print(line, markup=False)
                said = len(lines)
                found = endpoint.read(self._settings.state_dir)
                if found and found.pid == self._supervisor.pid:
                    return found.url
                self.check()
                time.sleep(0.1)

    def check(self) -> None:
        if self._supervisor is not None and self._supervisor.poll() is not None:
            reason = self._words().partition("error: ")[2] or "its supervisor was killed"
            raise StartFailed(f"the system ended: {reason}")

    def stop(self, console: Console) -> None:
        """Nothing for a system that was there before. A second Ctrl-C makes the supervisor cut its waiting short."""
        if self._supervisor is None or self._supervisor.poll() is not None:
            return
        with console.status("stopping"):
            signal.signal(signal.SIGINT, lambda number, frame: self._supervisor.send_signal(signal.SIGTERM))
            self._supervisor.terminate()
            try:
                self._supervisor.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()  # its children notice and end
                self._supervisor.wait()
        console.print("everything is stopped")

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "workers", "up"]
        for name, value in self._flags.items():
            command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        with open(
            instance.open_in(self._settings.state_dir, "logs/supervisor.log", os.O_WRONLY | os.O_APPEND), "ab"
        ) as log:
            self._log_start = log.tell()
            self._supervisor = subprocess.Popen(
                command,
                env={**os.environ, "COLUMNS": "500"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is answered here, and passed on in order
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def _words(self) -> str:
        return tail(self._log, self._log_start, lines=100)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _answers(url: str) -> bool:
    try:
        with Client(url, patience=0) as client:
            client.ready()
    except Unreachable:
        return False
    return True


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
