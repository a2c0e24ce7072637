"""The dispatcher by itself: secrets it hands on, and runners that keep failing. No Ray here."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from service.store import checkpoints, events, leases, studies
from service.store.states import Action
from service.store.tables import Event, Group, Study
from workers import dispatcher as dispatcher_module
from workers.dispatcher import MOST_FAILURES
from workers.exits import FAILED, LEASE_LOST, NO_RAY, RAY_ENDED


def submit(dispatcher, spec) -> str:
    with dispatcher.database.begin() as session:
        return studies.create(session, spec).study.id


def test_the_url_reaches_a_runner_by_a_private_file_only(dispatcher, tmp_path):
    url = dispatcher.database.url
    assert url not in str(dispatcher.environment)
    path = Path(dispatcher.environment["MUDMAN_DATABASE_URL_FILE"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == url
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "no draft is left"


def test_a_runner_is_spawned_per_group_in_a_session_of_its_own(dispatcher, make_spec):
    submit(dispatcher, make_spec())
    dispatcher.environment |= {"MUDMAN_RAY_ADDRESS": "127.0.0.1:1"}
    dispatcher.turn()
    [(claim, process)] = dispatcher.runners
    try:
        assert os.getsid(process.pid) == process.pid
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        assert dispatcher.database.url not in arguments
        assert dispatcher.database.url not in Path(f"/proc/{process.pid}/environ").read_bytes().decode()
    finally:
        process.kill()
        process.wait()
    dispatcher.turn()
    assert dispatcher.runners == [], "reaped, and not claimed again before its pause is over"
    with dispatcher.database.begin() as session:
        group = session.get_one(Group, claim.group_id)
        assert (group.failures, group.expires_at) == (1, None)
        assert group.not_before is not None


def test_a_study_whose_runners_keep_failing_fails_and_says_why(dispatcher, make_spec):
    study_id = submit(dispatcher, make_spec())
    with dispatcher.database.begin() as session:
        events.append(session, study_id, "runner_failed", {"reason": "OSError: nothing left"})
        session.execute(update(Group).values(failures=MOST_FAILURES))
    dispatcher.turn()
    assert dispatcher.runners == []
    with dispatcher.database.begin() as session:
        study = session.get_one(Study, study_id)
        assert (study.state, study.problem["type"]) == ("failed", "urn:mudman:problem:runners-failed")
        assert "OSError: nothing left" in study.problem["detail"]
        group = session.get_one(Group, study.group_id)
        assert (group.failures, group.expires_at) == (0, None)


@pytest.mark.parametrize(
    ("status", "failures"), [(0, 0), (FAILED, 1), (RAY_ENDED, 0), (LEASE_LOST, 0), (NO_RAY, 0), (-9, 1)]
)
def test_what_counts_as_a_failure_of_the_runner(dispatcher, make_spec, status, failures):
    """A Ray that is away for long must fail no study."""
    submit(dispatcher, make_spec())
    with dispatcher.database.begin() as session:
        claim = leases.claim(session, dispatcher.id, 60)
    dispatcher._ended(claim, status)
    with dispatcher.database.begin() as session:
        group = session.get_one(Group, claim.group_id)
        assert (group.failures, group.expires_at) == (failures, None)
        assert (group.not_before is not None) == bool(status), "it is tried again, after a pause"


def test_an_artifact_store_that_does_not_answer_holds_up_no_claim(dispatcher, make_spec, monkeypatch, caplog):
    """It has to be swept, and takes minutes to be given up."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, "none")
        dispatcher.settings = dispatcher.settings.model_copy(update={"artifacts": "s3://bucket"})
        with dispatcher.database.begin() as session:
            checkpoints.doom(session, ["st_gone"])
        dispatcher.turn()
        with deaf.accept()[0] as asked:  # the sweep is under way
            study_id = submit(dispatcher, make_spec())
            dispatcher.turn()
            [(claim, process)] = dispatcher.runners
            process.kill()
            process.wait()
            assert dispatcher.sweeping.is_alive()
            with dispatcher.database.begin() as session:
                assert session.get_one(Study, study_id).group_id == claim.group_id
            asked.recv(2**16)
            asked.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        dispatcher.sweeping.join(30)
    assert "1 doomed artifact(s) stay for now" in caplog.text


def test_giving_up_survives_a_study_that_was_cancelled_in_between(dispatcher, make_spec, monkeypatch):
    study_id = submit(dispatcher, make_spec())
    with dispatcher.database.begin() as session:
        session.execute(update(Group).values(failures=MOST_FAILURES))
    unfinished = dispatcher_module._unfinished

    def cancelled_after_the_look(session, group_id):
        found = unfinished(session, group_id)
        with dispatcher.database.begin() as other:
            studies.change_state(other, study_id, Action.CANCEL)
        return found

    monkeypatch.setattr(dispatcher_module, "_unfinished", cancelled_after_the_look)
    dispatcher.turn()
    with dispatcher.database.begin() as session:
        study = session.get_one(Study, study_id)
        assert (study.state, study.problem) == ("cancelled", None)
        assert session.get_one(Group, study.group_id).expires_at is None


def test_a_runner_that_was_asked_to_end_and_had_to_be_killed_is_no_failure(dispatcher, make_spec, monkeypatch):
    submit(dispatcher, make_spec())
    dispatcher.turn()
    [(claim, process)] = dispatcher.runners
    os.kill(process.pid, signal.SIGSTOP)  # a process that does not answer
    os.waitpid(process.pid, os.WUNTRACED)  # until it really has stopped
    monkeypatch.setattr(dispatcher_module, "PATIENCE", 0.1)
    dispatcher.end_runners()
    assert process.returncode == -signal.SIGKILL
    with dispatcher.database.begin() as session:
        group = session.get_one(Group, claim.group_id)
        assert (group.failures, group.expires_at, group.not_before) == (0, None, None)


def test_a_runner_asked_to_end_before_it_has_ray_gives_its_lease_back(dispatcher, make_spec):
    study_id = submit(dispatcher, make_spec())
    dispatcher.turn()
    [(claim, process)] = dispatcher.runners
    deadline = time.monotonic() + 60
    while not _catches(process.pid, signal.SIGTERM):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    assert process.wait(20) == 0
    with dispatcher.database.begin() as session:
        group = session.get_one(Group, claim.group_id)
        assert (group.failures, group.expires_at, group.not_before) == (0, None, None)
        assert session.get_one(Study, study_id).state == "queued"


def _catches(pid: int, number: signal.Signals) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught[1], 16) >> (number - 1) & 1)


def test_expired_leases_are_left_to_their_holders_after_an_outage(dispatcher, make_spec):
    submit(dispatcher, make_spec())
    assert dispatcher._claim()
    with dispatcher.database.begin() as session:
        session.execute(update(Group).values(expires_at=func.now() - text("interval '1 second'")))
    dispatcher.patience.away(time.monotonic())
    assert dispatcher._claim() is None
    submit(dispatcher, make_spec(name="new"))
    assert dispatcher._claim().epoch == 1, "what nobody holds is claimed at once"
    patient(dispatcher)
    assert dispatcher._claim().epoch == 2


def patient(dispatcher) -> None:
    """It has waited as long as it has to before it judges leases."""
    dispatcher.patience.away(time.monotonic() - dispatcher.settings.lease_expiry)


def test_dispatchers_load_neither_ray_nor_torch():
    code = "import sys, workers.dispatcher; sys.exit(bool({'ray', 'torch', 'optuna'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def two(new_database, tmp_path):
    """Starts dispatchers of one database as processes; ends what is left of them, and their runners."""
    database, started = new_database(), []
    (tmp_path / "url").touch(mode=0o600)
    (tmp_path / "url").write_text(database.url)
    settings = {"DATABASE_URL_FILE": tmp_path / "url", "STATE_DIR": tmp_path, "RAY_ADDRESS": "127.0.0.1:1"}
    settings |= {"LEASE_RENEWAL": 0.5, "LEASE_EXPIRY": 3, "DISPATCHER_POLL": 1}
    environment = os.environ | {f"MUDMAN_{name}": str(value) for name, value in settings.items()}

    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "workers", "dispatcher", "--id", name]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        return started[-1]

    yield database, start
    for process in started:
        process.terminate()
        process.wait(30)
    for pid in _processes(b"workers\0runner", tmp_path):
        os.kill(pid, signal.SIGKILL)


def _processes(part: bytes, folder: Path) -> list[int]:
    """Of ours with this in their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and part in (entry / "cmdline").read_bytes():
                found += [int(entry.name)] * (str(folder).encode() in (entry / "environ").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _until(question, timeout: float = 60):
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def test_two_dispatchers_share_the_queue_and_one_takes_over_within_five_seconds_of_expiry(two, make_spec, tmp_path):
    database, start = two
    first = start("first")
    with database.begin() as session:
        one = studies.create(session, make_spec(name="one")).study

    def group(session) -> Group:
        return session.get_one(Group, one.group_id)

    def renewed_often() -> bool:
        with database.begin() as session:
            left = group(session).expires_at - session.scalar(select(func.now())) if group(session).expires_at else None
            return left is not None and left.total_seconds() < 3.5  # by the runner, no longer by the dispatcher

    _until(renewed_often)
    start("second")
    with database.begin() as session:
        assert (group(session).owner, group(session).epoch) == ("first", 1)
    _until(lambda: len(_processes(b"workers\0observer", tmp_path)) == 2)
    [runner] = _processes(b"workers\0runner", tmp_path)
    first.kill()
    os.kill(runner, signal.SIGKILL)
    first.wait()
    with database.begin() as session:
        expired = group(session).expires_at
        studies.create(session, make_spec(name="two"))

    def claims() -> dict[str, tuple]:
        with database.begin() as session:
            rows = session.scalars(select(Event).where(Event.kind == "claimed").order_by(Event.at)).all()
            return {f"{row.study_id == one.id} {row.data['epoch']} {row.data['owner']}": row.at for row in rows}

    found = _until(lambda: len(claims()) == 3 and claims())
    assert list(found) == ["True 1 first", "False 1 second", "True 2 second"]
    late = (found["True 2 second"] - expired).total_seconds()
    assert 0 <= late <= 5, late
    _until(
        lambda: len(_processes(b"workers\0observer", tmp_path)) == 1
    )  # that of the dispatcher which is gone ended too
