"""The demo from nothing to its result, and what is left of it however it ends. Simulated trials; all else is real."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_system import System, running, simulated

from service.client import Client


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    system.close()


def spec_file(tmp_path: Path, **options) -> str:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(simulated("short", **options)))
    return str(path)


def test_ctrl_c_in_the_middle_stops_every_process(system: System, tmp_path: Path):
    process = system.start("demo", "--file", spec_file(tmp_path, seconds=60))
    with Client(system.endpoint(process).url) as client:
        system.wait(lambda: [study for study in client.studies() if running(client, study["id"])], 90)
    assert len(system.processes()) > 12  # supervisor, Postgres, API, dispatcher, runner, Ray, trial actors
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - started < 15
    system.nothing_left(within=1)


@pytest.mark.parametrize("after", [0.2, 1.5])
def test_ctrl_c_while_it_starts_stops_every_process(system: System, tmp_path: Path, after: float):
    process = system.start("demo", "--file", spec_file(tmp_path))
    system.wait(lambda: "workers" in " ".join(system.processes().values()), 20)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (130, -signal.SIGINT)
    system.nothing_left(within=5)


def test_nothing_survives_a_killed_supervisor_and_the_demo_then_ends_its_study(system: System, tmp_path: Path):
    """kill -9 in the middle of a study: the demo, started over the same folder, joins it and shows its result."""
    first = system.start("up")
    found = system.endpoint(first)
    spec = simulated("short", seconds=1, trials=4)
    with Client(found.url) as client:
        study = client.submit(spec)
        system.wait(lambda: client.study(study["id"])["progress"]["trials"] >= 1, 90)
    assert found.pid == first.pid
    os.kill(found.pid, signal.SIGKILL)
    first.wait()
    system.nothing_left(within=15)

    done = system.run("demo", "--file", spec_file(tmp_path, seconds=1, trials=4))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "short: completed · 4/4 trials" in done.stdout
    assert "4 valid" in done.stdout
    for row in ("original model", "no unlearning, after the attack", "MUDMAN, best trial", "unlearning_rate"):
        assert row in done.stdout
    assert f"/studies/{study['id']}" in done.stdout
    assert "make up" in done.stdout
    system.nothing_left(within=1)
    assert not (system.state_dir / "endpoint.json").exists()


def test_a_spec_that_is_wrong_ends_the_demo_with_its_fields(system: System, tmp_path: Path):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(simulated("wrong") | {"attack": {"passes": 61, "rate": 1}, "bugdet": {}}))
    done = system.run("demo", "--file", str(path))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "bugdet" in done.stderr
    assert "attack.passes" in done.stderr
    assert "Traceback" not in done.stderr
    system.nothing_left(within=1)
