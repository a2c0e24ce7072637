"""The dispatcher by itself: secrets it hands on, and runners that keep failing. No Ray here."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from service.store import events, studies
from service.store.settings import Settings
from service.store.tables import Group, Study
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


def test_dispatchers_load_neither_ray_nor_torch():
    code = "import sys, workers.dispatcher; sys.exit(bool({'ray', 'torch', 'optuna'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
