"""Nothing outlives its supervisor: the lifeline and the wrapper for commands that know nothing of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from workers import lifeline
from workers.embedded.processes import descendants

# A command as Ray is one: it starts a process in a session of its own, which ignores polite requests.
STUBBORN = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
                 start_new_session=True)
open(sys.argv[1], "w").close()
{end}
"""


def start(ready: Path, descriptor: int, end: str = "time.sleep(600)") -> subprocess.Popen:
    command = [sys.executable, "-c", STUBBORN.format(end=end), str(ready)]
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.embedded.child", "--", *command],
        env={**os.environ, lifeline.VARIABLE: str(descriptor)},
        pass_fds=[descriptor],
    )
    deadline = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < deadline, "the command was not started"
        time.sleep(0.02)
    return process


def all_gone(pids: set[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_wrapper_ends_everything_when_the_lifeline_breaks(tmp_path: Path):
    reading, writing = os.pipe()
    process = start(tmp_path / "ready", reading)
    below = descendants(process.pid)
    assert len(below) == 2
    os.close(writing)
    process.wait(10)
    assert all_gone(below, 1)
    os.close(reading)


def test_the_wrapper_ends_everything_on_sigterm(tmp_path: Path):
    reading, writing = os.pipe()
    process = start(tmp_path / "ready", reading)
    below = descendants(process.pid)
    process.terminate()
    process.wait(10)
    assert all_gone(below, 1)
    os.close(reading)
    os.close(writing)


def test_the_wrapper_passes_the_exit_code_on_and_leaves_no_orphans(tmp_path: Path):
    reading, writing = os.pipe()
    process = start(tmp_path / "ready", reading, end="sys.exit(7)")
    assert process.wait(10) == 7
    assert not descendants(os.getpid()) & {process.pid}
    os.close(reading)
    os.close(writing)


def test_a_process_that_watches_the_lifeline_ends_when_it_breaks():
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; from workers import lifeline; lifeline.watch(); time.sleep(600)"],
        env={**os.environ, lifeline.VARIABLE: str(reading)},
        pass_fds=[reading],
    )
    os.close(reading)
    time.sleep(0.2)
    assert process.poll() is None
    os.close(writing)
    assert process.wait(10) == lifeline.EXIT_CODE


def test_without_a_lifeline_nothing_is_watched(monkeypatch):
    monkeypatch.delenv(lifeline.VARIABLE, raising=False)
    lifeline.watch()
    assert lifeline.inherited() == ()


def test_a_child_of_a_killed_parent_gets_its_signal(tmp_path: Path):
    """The parent-death signal, as Postgres, API and dispatcher carry it."""
    code = (
        "import signal, subprocess, sys, time\n"
        "from workers.embedded.processes import die_with_parent\n"
        "child = subprocess.Popen(['sleep', '600'], preexec_fn=die_with_parent(signal.SIGKILL))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert all_gone({child}, 5)
