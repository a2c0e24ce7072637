"""Long logs are put aside while their processes write them."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.store.settings import Settings
from workers.embedded import log_files
from workers.embedded.services import Child
from workers.embedded.supervisor import Supervisor

TALKATIVE = "import sys\nfor line in sys.stdin: print(line.strip() * 100, flush=True)"


@pytest.fixture
def writer(tmp_path: Path):
    """A process that holds its log open, as a child of the supervisor does: says a hundred times what it is told."""
    with (tmp_path / "api.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", TALKATIVE], stdin=subprocess.PIPE, stdout=log, text=True)

    def write(letter: str) -> None:
        before = (tmp_path / "api.log").stat().st_size
        process.stdin.write(f"{letter}\n")
        process.stdin.flush()
        while (tmp_path / "api.log").stat().st_size < before + 101:
            assert process.poll() is None

    yield write
    process.stdin.close()
    process.wait(10)


def test_a_process_goes_on_in_the_log_that_was_cut(tmp_path, writer):
    writer("a")
    log_files.rotate(tmp_path, largest=1000)
    assert not (tmp_path / "api.log.1").exists()
    log_files.rotate(tmp_path, largest=100)
    assert (tmp_path / "api.log.1").read_text() == "a" * 100 + "\n"
    assert (tmp_path / "api.log").read_text() == ""
    writer("b")
    assert (tmp_path / "api.log").read_text() == "b" * 100 + "\n"
    log_files.rotate(tmp_path, largest=100)
    assert (tmp_path / "api.log.1").read_text() == "b" * 100 + "\n"


def test_the_last_words_of_a_process_whose_log_was_put_aside(tmp_path):
    log = tmp_path / "api.log"
    log.write_text("of the process before\n" * 100)
    child = Child("api", ["/bin/sh", "-c", "echo started"], {}, log, lifeline_descriptor=0)
    child.start()
    child.process.wait(10)
    assert child.words() == "started"
    log_files.rotate(tmp_path, largest=100)
    with log.open("a") as later:
        later.write("ended\n")
    assert child.words() == "ended"


def test_a_system_that_stays_up_looks_at_its_logs_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(log_files.rotate, "__defaults__", (100,))
    supervisor = Supervisor(Settings(state_dir=tmp_path), print)
    supervisor._logs = tmp_path
    (tmp_path / "api.log").write_text("long" * 100)
    supervisor._tick()
    assert not (tmp_path / "api.log.1").exists(), "not at every tick"
    monkeypatch.setattr("workers.embedded.supervisor._ROTATION", 0.0)
    supervisor._tick()
    assert (tmp_path / "api.log").stat().st_size == 0
