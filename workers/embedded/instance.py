"""One running system per state folder: its lock, its short-lived folder, its port."""

import contextlib
import fcntl
import hashlib
import math
import os
import random
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from mudman.faults import MudmanError
from service import endpoint


class AlreadyRunning(MudmanError):
    """Another supervisor holds the state folder."""


class PortTaken(MudmanError):
    """The port that was asked for is in use."""


class StateFolderUnusable(MudmanError):
    """The state folder cannot be made or written."""


@contextlib.contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder. The kernel gives the lock back however the holder ends; a stale one cannot exist.

    Raises ``AlreadyRunning``, which says where the first one listens, and ``StateFolderUnusable``.
    """
    descriptor = open_in(state_dir, "lock", os.O_RDWR)
    with open(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_who_runs(state_dir, lock.read().strip())) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def open_in(state_dir: Path, name: str, flags: int) -> int:
    """Open a file of the state folder for its owner only, making the folders. Raises ``StateFolderUnusable``."""
    try:
        # Root's Postgres runs as ``nobody``, who must be able to pass through; secrets inside have modes of their own.
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        (state_dir / name).parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(state_dir / name, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateFolderUnusable(
            f"cannot keep state in {state_dir}: {error.strerror}: {error.filename}. "
            "Remedy: set MUDMAN_STATE_DIR to a folder that this user may write"
        ) from None


def _who_runs(state_dir: Path, pid: str) -> str:
    found = endpoint.read(state_dir)
    where = f"runs at {found.url}" if found else "is being started or stopped"
    return (
        f"the embedded system of {state_dir} {where} (process {pid or 'unknown'}). Remedy: use it, stop it with "
        f"`kill {pid or 'PID'}` or Ctrl-C in its terminal, or set MUDMAN_STATE_DIR for a second one"
    )


def runtime_folder(state_dir: Path) -> Path:
    """Sockets and Ray's temporary files: a short path (a Unix socket's has 107 bytes), the same at every start.

    /tmp belongs to everybody, so a folder that somebody else made there is refused.
    """
    digest = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:10]
    folder = Path(f"/tmp/mudman-{os.geteuid()}-{digest}")
    folder.mkdir(mode=0o711, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StateFolderUnusable(f"{folder} was made by somebody else. Remedy: remove it")
    return folder


def clear(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def choose_port(host: str, wanted: int, explicit: bool) -> int:
    """``wanted`` if it is free; else any free one, unless somebody asked for it. Raises ``PortTaken``."""
    try:
        return _bindable(host, wanted) if wanted else free_port(host)
    except PermissionError:
        raise PortTaken(
            f"this user may not listen on port {wanted}. Remedy: take one above 1023 (--port 8080)"
        ) from None
    except socket.gaierror:
        raise PortTaken(f"{host!r} is no address of this machine. Remedy: --host 127.0.0.1") from None
    except OSError as error:
        if explicit:
            raise PortTaken(
                f"cannot listen on {host} port {wanted}: {error.strerror}. Remedy: stop what uses it, "
                "choose another with --port, or let a free one be chosen with --port 0"
            ) from None
        return free_port(host)


def free_port(host: str = "127.0.0.1") -> int:
    """Below those that the kernel gives away: until it is listened on nobody else gets it by accident, as either end of
    a connection; and above those that Ray keeps for its workers (10,002 to 19,999). Raises ``OSError``."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 50):
        with contextlib.suppress(OSError):  # taken: the next one
            return _bindable(host, port)
    return _bindable(host, 0)


def _bindable(host: str, port: int) -> int:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no obstacle
        probe.bind((host, port))
        return probe.getsockname()[1]


def processors() -> int:
    """Processors that this process may use: affinity, and the quota of its control group (containers)."""
    usable = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        usable = min(usable, max(1, math.ceil(int(quota) / int(period))))
    return usable
