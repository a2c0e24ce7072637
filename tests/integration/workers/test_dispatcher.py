"""The dispatcher by itself: secrets it hands on, and runners that keep failing. No Ray here."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, text, update

from service.store import events, studies
from service.store.settings import Settings
from service.store.states import Action
from service.store.tables import Group, Study
from workers import dispatcher as dispatcher_module
from workers.database_url import handed_over
from workers.dispatcher import MOST_FAILURES, Dispatcher


@pytest.fixture
def dispatcher(new_database, tmp_path, monkeypatch):
    database = new_database()
    monkeypatch.setenv("MUDMAN_DATABASE_URL", database.url)
    monkeypatch.setenv("MUDMAN_STATE_DIR", str(tmp_path))
    settings = Settings()
    return Dispatcher(settings, database, "one", handed_over(settings))


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
        events.append(session, study_id, "runner_failed", {"reason": "RayUnavailable: nobody answers"})
        session.execute(update(Group).values(failures=MOST_FAILURES))
    dispatcher.turn()
    assert dispatcher.runners == []
    with dispatcher.database.begin() as session:
        study = session.get_one(Study, study_id)
        assert (study.state, study.problem["type"]) == ("failed", "urn:mudman:problem:runners-failed")
        assert "RayUnavailable: nobody answers" in study.problem["detail"]
        group = session.get_one(Group, study.group_id)
        assert (group.failures, group.expires_at) == (0, None)


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
    dispatcher.outage = time.monotonic()
    assert dispatcher._claim() is None
    submit(dispatcher, make_spec(name="new"))
    assert dispatcher._claim().epoch == 1, "what nobody holds is claimed at once"
    dispatcher.outage -= dispatcher.settings.lease_expiry
    assert dispatcher._claim().epoch == 2


def test_dispatchers_load_neither_ray_nor_torch():
    code = "import sys, workers.dispatcher; sys.exit(bool({'ray', 'torch', 'optuna'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
