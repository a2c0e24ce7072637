"""The system where others reach it: not without tokens; and with them from the first token to a study's result."""

import json
import signal
from pathlib import Path

import httpx
import pytest
from embedded_system import System, simulated

ALIEN = "mudman_" + "0" * 43
"""A token of whoever starts the system, for another one."""


def test_it_does_not_start_where_others_reach_it_without_tokens():
    system = System()
    try:
        for command in ("up", "demo"):
            refused = system.run(command, "--host", "0.0.0.0")
            assert refused.returncode == 1
            assert "MUDMAN_ACCESS=tokens" in refused.stdout + refused.stderr
            assert "Traceback" not in refused.stdout + refused.stderr
        system.nothing_left(within=5)
    finally:
        system.close()


@pytest.fixture(scope="module")
def system():
    system = System(MUDMAN_ACCESS="tokens", MUDMAN_TOKEN=ALIEN)
    process = system.start("up", "--host", "0.0.0.0")
    del system.more["MUDMAN_TOKEN"]
    try:
        system.endpoint(process)
        yield system
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        system.close()


def test_from_the_first_token_to_a_result(system: System):
    refused = system.run("ls")
    assert refused.returncode == 2, refused.stderr
    assert "mudman token save" in refused.stderr
    made = system.run("token", "create", "--owner", "ann", "--save")
    assert made.returncode == 0, made.stderr
    done = system.run("submit", "-", "--watch", "--json", given=json.dumps(simulated("guarded", trials=2)))
    assert done.returncode == 0, done.stderr
    study = json.loads(done.stdout)
    assert (study["owner"], study["state"]) == ("ann", "completed")
    assert system.run("best", "guarded").returncode == 0
    assert httpx.get(f"{system_url(system)}/studies").status_code == 401


def test_its_processes_have_no_token_of_whoever_started_it(system: System):
    [supervisor] = [pid for pid, words in system.processes().items() if "workers up" in words]
    seen = 0
    for pid in system.processes():
        if pid != supervisor:
            assert ALIEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes(), system.processes()[pid]
            seen += 1
    assert seen > 5


def system_url(system: System) -> str:
    return json.loads((system.state_dir / "endpoint.json").read_text())["url"]
