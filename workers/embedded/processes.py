"""Linux process ties: children that end with their parent, and everything that descends from a process.

Linux ends an orphan's life for nobody by itself. Two of its features do it when asked: the parent-death signal, tied
to the *thread* that forked, and the child subreaper, to which orphaned descendants are given instead of to init.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(with_signal: signal.Signals) -> Callable[[], None]:
    """A ``preexec_fn`` after which the child gets ``with_signal`` as soon as this process is gone, however it died.

    Raises ``RuntimeError`` outside the main thread: the kernel would signal the child when that thread ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children tied to this process must be started from its main thread")
    parent = os.getpid()

    def tie() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)

    return tie


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, int]:
    """Parent of every process that is not yet a zombie."""
    tree = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # "pid (name) state ppid …": the name may hold spaces and parentheses, so read from its last one.
                state, parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    tree[int(entry.name)] = int(parent)
    return tree


def descendants(of: int) -> set[int]:
    """Every live process below ``of``."""
    tree = parents()
    children: dict[int, list[int]] = {}
    for pid, parent in tree.items():
        children.setdefault(parent, []).append(pid)
    found, queue = set(), [of]
    while queue:
        below = children.get(queue.pop(), [])
        found.update(below)
        queue += below
    return found


def send(pids: Iterable[int], with_signal: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, with_signal)


def reap(owned: Iterable[subprocess.Popen] = ()) -> None:
    """Bury children that ended: adopted orphans here, ``owned`` ones through the objects that keep their exit code."""
    by_pid = {process.pid: process for process in owned}
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in by_pid:
                by_pid[ended.si_pid].poll()
            else:
                os.waitpid(ended.si_pid, os.WNOHANG)


def end_descendants(grace: float, owned: Iterable[subprocess.Popen] = ()) -> set[int]:
    """SIGTERM to everything below this process, SIGKILL after ``grace`` seconds; what is left 5 s later is returned."""
    send(descendants(os.getpid()), signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left := descendants(os.getpid()):
        if time.monotonic() > deadline + 5:
            return left
        if time.monotonic() > deadline:
            send(left, signal.SIGKILL)
        time.sleep(0.05)
        reap(owned)
    reap(owned)
    return set()
