"""The folder of the embedded Postgres: made once, checked at every start, and owned by the user who runs the server."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mudman.faults import MudmanError
from workers.embedded import binaries
from workers.embedded.processes import die_with_parent

USER = "mudman"
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""Of every Postgres program: no PG* variable of the user's gets in."""
ROOM = 100 * 2**20
"""Bytes that a fresh database needs: it takes 42 MB, its journal grows, its programs may be copied (41 MB)."""


class PostgresFailed(MudmanError):
    """The embedded server cannot be set up or started; the message holds its own words and the remedy."""


class DataFolder:
    """``data`` and ``password`` below one folder, and who runs the server over them."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.run_as: binaries.RunAs | None = None
        """Under root somebody else, because Postgres refuses to run as root; otherwise this user."""

    def prepare(self, installation: Path, durable: bool) -> Path:
        """Make or check the data; returns the installation that can run over it. Raises ``PostgresFailed``."""
        with explained(self.folder):
            self._choose_user()
            if not self.data.exists() and (free := shutil.disk_usage(self.folder).free) < ROOM:
                # Before ``initdb``, which may die of a full disk without a word about it.
                lacking = f"a fresh database has no room in {self.folder}, where {free / 1e6:.0f} MB are free."
                raise PostgresFailed(lacking + _more_room(self.folder))
            home = binaries.usable(installation, self.folder, self.run_as)
            if self.data.exists():
                self._check_version(home)
                self._clear_stale_pid()
            else:
                self._initialise(home, durable)
            return home

    def password(self) -> str:
        try:
            return (self.folder / "password").read_text("utf-8").strip()
        except OSError as error:
            raise PostgresFailed(
                f"cannot read the password of the embedded Postgres: {error.strerror}: {error.filename}. "
                f"Remedy: restore that file, or move {self.folder} away to start afresh"
            ) from None

    def give(self, path: Path) -> None:
        """Hand a file or folder to the user who runs the server."""
        if self.run_as:
            os.chown(path, self.run_as.uid, self.run_as.gid)

    def _choose_user(self) -> None:
        """Under root the owner of the data, at first ``nobody``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = self.data.stat().st_uid if self.data.exists() else None
        if os.geteuid() == 0:
            self.run_as = binaries.RunAs.of(owner or _nobody())
        elif owner not in (None, os.geteuid()):
            raise PostgresFailed(
                f"{self.data} belongs to the user {_name(owner)}. Remedy: run as that user, "
                "or set MUDMAN_STATE_DIR to a folder of your own"
            )
        self.give(self.folder)
        self.folder.chmod(0o700)
        if self.run_as and (closed := binaries.closed_parent(self.folder, self.run_as)):
            raise PostgresFailed(
                f"Postgres refuses to run as root, so it runs as {_name(self.run_as.uid)} here, and that user may not "
                f"enter {closed}. Remedy: set MUDMAN_STATE_DIR to a folder that others may pass through, "
                "such as /var/lib/mudman, or run as an ordinary user"
            )

    def _check_version(self, home: Path) -> None:
        stamp = self.data / "PG_VERSION"
        if not stamp.exists():
            raise PostgresFailed(
                f"{self.data} is no Postgres data folder: PG_VERSION is missing. Remedy: move it away to start afresh"
            )
        found, ours = stamp.read_text().strip(), binaries.major_version(home, self.run_as)
        if found != ours:
            raise PostgresFailed(
                f"{self.data} was written by Postgres {found}; this is Postgres {ours}, which cannot read it. "
                f"Remedy: put the old data aside with `mv {self.data} {self.data}-{found}` and start afresh; to bring "
                f"the old studies over, run a Postgres {found} on that folder and load its pg_dump into the new one"
            )

    def _initialise(self, home: Path, durable: bool) -> None:
        """``initdb`` beside the final place and rename: a half-made data folder is never taken for a whole one."""
        partial, password_file = self.folder / "data.partial", self.folder / "password"
        shutil.rmtree(partial, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        self.give(password_file)
        command = [home / "bin" / "initdb", "-D", partial, f"--username={USER}", f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]  # alike on every machine
        command += [] if durable else ["--no-sync"]
        done = subprocess.run(
            command,
            **binaries.child_options(self.run_as),
            env=CLEAN_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        if done.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise PostgresFailed(remedied(f"initdb failed:\n{done.stdout.strip()}", self.folder))
        partial.rename(self.data)

    def _clear_stale_pid(self) -> None:
        """Wait for a server that is still ending, because its supervisor was just killed; then see to its pid file.

        Postgres distrusts a pid file whose number is that of a live process of the same user, which after a reboot is
        any process. The file is removed only when no server process is left over this data: it also guards against a
        second server beside the orphans of a first.
        """
        deadline = time.monotonic() + 15
        while over := _processes_in(self.data):
            if time.monotonic() > deadline:
                raise PostgresFailed(
                    f"another Postgres (process {min(over)}) runs over {self.data}. "
                    f"Remedy: end it with `kill -INT {min(over)}`"
                )
            time.sleep(0.1)
        (self.data / "postmaster.pid").unlink(missing_ok=True)


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Errors of the operating system, in words."""
    try:
        yield
    except OSError as error:
        message = (
            f"cannot set up Postgres in {folder}: {error.strerror}: {error.filename or folder}. "
            "Remedy: make it writable for this user, or set MUDMAN_STATE_DIR to a folder that is"
        )
        raise PostgresFailed(remedied(message, folder)) from error


def remedied(message: str, folder: Path) -> str:
    if "No space left on device" in message or "Disk quota exceeded" in message:
        return message + _more_room(folder)
    return message


def _more_room(folder: Path) -> str:
    return f"\nThe disk is full. Remedy: free some space for {folder} (a fresh database takes {ROOM / 1e6:.0f} MB)"


def _nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"number {uid}"


def _processes_in(folder: Path) -> set[int]:
    """Processes whose current folder this is: every Postgres process changes into its data folder."""
    home, found = folder.resolve(), set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or another user's
                if Path(os.readlink(f"/proc/{entry.name}/cwd")) == home:
                    found.add(int(entry.name))
    return found
