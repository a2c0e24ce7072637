"""The command line against a running system: output, exit codes, errors, and a system that mends itself."""

import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from embedded_system import MUDMAN, System, simulated

from mudman.results import Curve
from service.client import Client, Unreachable


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One system for the module, stopped with Ctrl-C's signal at its end."""
    system = System()
    process = system.start("up")
    try:
        system.endpoint(process)
        yield system
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        system.nothing_left(within=1)
    finally:
        system.close()


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[Client]:
    with Client(json.loads((system.state_dir / "endpoint.json").read_text())["url"]) as client:
        yield client


@pytest.fixture(scope="module")
def finished(system: System) -> dict:
    """A study that was submitted and watched to its end."""
    done = system.run("submit", "-", "--watch", "--json", given=json.dumps(simulated("finished")))
    assert done.returncode == 0, done.stderr
    assert "finished: completed · 4/4 trials · 4 valid" in done.stderr
    return json.loads(done.stdout)


def test_what_the_state_folder_tells_is_for_its_owner_only(system: System):
    for name in ("database-url", "ray-token", "lock"):
        assert (system.state_dir / name).stat().st_mode & 0o077 == 0, name
    assert "password" not in (system.state_dir / "endpoint.json").read_text()
    secret = (system.state_dir / "database-url").read_text().partition("password=")[2].strip()
    assert secret
    assert not [words for words in system.processes().values() if secret in words]


def test_nothing_but_loopback_is_listened_on(system: System):
    ours = set(system.processes())
    sockets = {
        os.readlink(f"/proc/{pid}/fd/{fd}") for pid in ours for fd in os.listdir(f"/proc/{pid}/fd") if _is_link(pid, fd)
    }
    open_to_all = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in open_lines(table):
            local, state, inode = line[1], line[3], line[9]
            address = local.rpartition(":")[0]
            loopback = address in ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
            if state == "0A" and f"socket:[{inode}]" in sockets and not loopback:
                open_to_all.append(local)
    assert open_to_all == []


def open_lines(table: str) -> list[list[str]]:
    with open(table) as file:
        return [line.split() for line in file.readlines()[1:]]


def _is_link(pid: int, fd: str) -> bool:
    return os.path.lexists(f"/proc/{pid}/fd/{fd}")


def test_a_second_system_is_told_where_the_first_is(system: System, client: Client):
    done = system.run("up")
    assert done.returncode == 1
    assert client.url in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_was_asked_for_and_is_taken(client: Client):
    other = System()
    try:
        port = client.url.rpartition(":")[2]
        done = other.run("up", "--port", port)
        assert done.returncode == 1
        assert f"port {port}: Address already in use" in done.stderr
        assert "--port" in done.stderr
    finally:
        other.close()


def test_dry_run_submits_nothing(system: System):
    done = system.run("submit", "quickstart", "--dry-run", "--set", "budget.trials=3", "--set", "name=never")
    assert done.returncode == 0, done.stderr
    assert "valid: 3 trials" in done.stdout
    assert "never" not in system.run("ls").stdout


def test_ls_watch_and_best_by_id_and_by_name(system: System, finished: dict):
    row = next(line for line in system.run("ls").stdout.splitlines() if " finished " in line)
    assert finished["id"] in row
    assert "4/4" in row
    assert finished["id"] in [study["id"] for study in json.loads(system.run("ls", "--json").stdout)]
    assert system.run("ls", "--state", "failed").stdout.startswith("no studies")
    for reference in (finished["id"], "finished"):
        done = system.run("best", reference, "--json")
        assert json.loads(done.stdout)["study"] == finished["id"]
    table = system.run("best", "finished").stdout
    assert "MUDMAN, best trial" in table
    assert f"{json.loads(done.stdout)['value']:.4f}" in table
    assert system.run("watch", "finished").returncode == 0


def test_the_same_again_is_the_same_study_and_another_under_its_name_is_refused(system: System, finished: dict):
    done = system.run("submit", "-", "--json", given=json.dumps(simulated("finished")))
    assert (done.returncode, json.loads(done.stdout)["id"]) == (0, finished["id"])
    done = system.run("submit", "-", "--set", "budget.trials=9", given=json.dumps(simulated("finished")))
    assert done.returncode == 2
    assert "finished" in done.stderr


def test_every_wrong_field_is_named_with_its_remedy(system: System):
    done = system.run("submit", "quickstart", "--set", "attack.passes=61", "--set", "budget.trails=3")
    assert done.returncode == 2
    assert "attack.passes" in done.stderr
    assert "budget.trails" in done.stderr
    assert "did you mean 'trials'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_study_and_a_close_name(system: System, finished: dict):
    for command in ("watch", "best", "cancel"):
        done = system.run(command, "finnished")
        assert done.returncode == 2
        assert "Did you mean finished?" in done.stderr
    assert system.run("watch", "../presets").returncode == 2


def test_cancel_ends_a_study_and_watch_says_so(system: System, client: Client):
    study = client.submit(simulated("endless", seconds=60))
    assert system.run("best", "endless").returncode != 0
    done = system.run("cancel", "endless")
    assert (done.returncode, "is cancelled" in done.stdout) == (0, True)
    assert system.run("watch", study["id"]).returncode == 1
    again = system.run("cancel", "endless")
    assert again.returncode != 0
    assert "Traceback" not in again.stderr


def test_ctrl_c_ends_watching_and_not_the_study(system: System, client: Client):
    study = client.submit(simulated("watched", seconds=60))
    process = system.start("watch", study["id"])
    assert "watched" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert "the study goes on" in process.stdout.read()
    assert client.study(study["id"])["state"] not in ("cancelled", "failed")
    client.cancel(study["id"])


def test_a_terminal_gets_a_bar(system: System, finished: dict):
    leader, follower = pty.openpty()
    try:
        done = subprocess.run(
            [MUDMAN, "watch", "finished"],
            env={**system.environment(), "TERM": "xterm", "COLUMNS": "160"},
            stdin=follower,
            stdout=subprocess.PIPE,
            stderr=follower,
            timeout=60,
        )
        assert done.returncode == 0
        assert "━" in os.read(leader, 100_000).decode()
    finally:
        os.close(follower)
        os.close(leader)


def test_the_demo_uses_the_running_system_and_takes_a_free_name(system: System, client: Client, tmp_path, finished):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(simulated("finished")))
    done = system.run("demo", "--file", str(path))
    assert done.returncode == 0, done.stderr
    assert f"using the system that runs at {client.url}" in done.stdout
    assert "finished-2: completed" in done.stdout
    assert client.presets()  # it goes on


def test_parts_that_are_killed_are_started_again_and_the_study_ends_whole(system: System, client: Client):
    study = client.submit(simulated("mended", seconds=1, trials=6))
    system.wait(lambda: client.study(study["id"])["progress"]["trials"] >= 1, 60)
    for mark in ("/bin/postgres -D", "-m service"):
        pid = min(pid for pid, words in system.processes().items() if mark in words)
        os.kill(pid, signal.SIGKILL)
    client.patience = 60
    system.wait(lambda: client.study(study["id"])["state"] == "completed", 120)
    assert client.study(study["id"])["progress"]["outcomes"]["valid"] == 6
    ordinals = [trial["ordinal"] for trial in client.trials(study["id"], outcome="valid")]
    assert sorted(ordinals) == sorted(set(ordinals))


def test_from_a_model_of_ones_own_to_evidence_in_three_commands(system: System, tmp_path, monkeypatch):
    """All of it real; and what was pulled comes out of the same attack with the same losses, to the last bit."""
    from own_model import SHORT, attacked_again, copied

    submitted = system.run("submit", "quickstart", "--model", copied(system.state_dir / "mine"), *SHORT)
    assert submitted.returncode == 0, submitted.stderr
    for said in ("llama, 1.32 million parameters in 4 layers", "modules: 4 match", "2 trials of up to 28 passes"):
        assert said in submitted.stderr
    watched = system.run("watch", "mine")
    assert watched.returncode == 0, watched.stderr
    folder = tmp_path / "unlearned"
    pulled = system.run("pull", "mine", str(folder), "--json")
    assert pulled.returncode == 0, pulled.stderr
    found = json.loads(pulled.stdout)
    assert (found["agreement"], found["difference"]) == ("bit-equal", 0)
    assert "bit for bit as the search recorded it" in (folder / "README.md").read_text()

    best = json.loads(system.run("best", "mine", "--json").stdout)
    assert best["checkpoint"] == f"/studies/{best['study']}/checkpoints/{best['ordinal']}"
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(system.state_dir))
    assert attacked_again(folder) == Curve.model_validate(best["result"]["relearning"])


def test_what_is_no_api_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Client(url, timeout=0.5, patience=0) as client, pytest.raises(Unreachable, match="does not answer"):
            client.presets()
