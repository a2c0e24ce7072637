"""A backup of a study that is being searched, restored elsewhere, where the search goes on as if nothing had been."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cases import result_of
from sqlalchemy import func, select, text, update

from service.store import backup, leases
from service.store.cluster_tables import Dispatcher
from service.store.database import Database
from service.store.tables import Group, Study, Trial
from workers.study import StudyInHand

BUDGET = 12


def search(study: StudyInHand, trials: int | None = None) -> int:
    """Run trials until the budget is met; how many."""
    done = 0
    while (trials is None or done < trials) and (attempt := study.next()):
        study.settle(attempt, result_of(study, attempt))
        done += 1
    return done


def table(database: Database, study_id: str) -> list[tuple]:
    """What a search comes to: the trials that ended by themselves."""
    with database.begin() as session:
        query = select(Trial.ordinal, Trial.hyperparameters, Trial.outcome, Trial.value)
        wanted = query.where(Trial.study_id == study_id, Trial.outcome.not_in(("lost", "cancelled"))).order_by(
            Trial.ordinal
        )
        return [(row.ordinal, tuple(sorted(row.hyperparameters.items())), *row[2:]) for row in session.execute(wanted)]


@pytest.fixture
def empty(postgres):
    database = Database(postgres.create("template1"))
    yield database
    database.close()


def test_dumped_while_written_and_restored_the_search_goes_on_exactly(case, empty, tmp_path):
    running = case(trials=BUDGET)
    study = running.take_over()
    search(study, 4)
    writing = threading.Event()

    def write() -> None:
        search(study, 2)
        attempt = study.next()  # runs at the moment of the backup
        writing.set()
        study.settle(attempt, result_of(study, attempt))
        search(study)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait(30)
    assert backup.backup(running.database.url, tmp_path / "dump") > 10_000
    thread.join(60)
    undisturbed = table(running.database, running.id)
    assert len(undisturbed) == BUDGET
    assert (tmp_path / "dump").stat().st_mode & 0o077 == 0

    assert backup.restore(empty.url, tmp_path / "dump") == 1
    before = table(empty, running.id)
    assert 6 <= len(before) <= BUDGET
    assert before == undisturbed[: len(before)]
    with empty.begin() as session:
        assert session.scalar(select(func.count()).select_from(Dispatcher)) == 0
        lease = leases.claim(session, "another", 60)
    assert lease.epoch > running.lease.epoch
    search(StudyInHand(empty, lease, running.id))
    assert table(empty, running.id) == undisturbed


def test_a_database_with_studies_is_left_alone(case, tmp_path):
    running = case()
    backup.backup(running.database.url, tmp_path / "dump")
    with running.database.begin() as session:
        session.execute(update(Study).values(name="renamed"))
    with pytest.raises(backup.NotEmpty, match="Remedy"):
        backup.restore(running.database.url, tmp_path / "dump")
    with running.database.begin() as session:
        assert session.scalars(select(Study.name)).all() == ["renamed"]


def test_a_fresh_database_that_was_migrated_already_counts_as_empty(case, new_database, tmp_path):
    running, fresh = case(), new_database()
    backup.backup(running.database.url, tmp_path / "dump")
    assert backup.restore(fresh.url, tmp_path / "dump") == 1
    with fresh.begin() as session:
        assert session.scalars(select(Group.expires_at)).all() == [None]


def test_what_is_no_backup_changes_nothing(new_database, tmp_path):
    (tmp_path / "dump").write_text("nothing of the kind")
    fresh = new_database()
    with pytest.raises(backup.BackupFailed, match="pg_restore failed"):
        backup.restore(fresh.url, tmp_path / "dump")
    with fresh.begin() as session:
        assert session.scalar(text("select to_regclass('mudman.study')")) is not None
    with pytest.raises(backup.BackupFailed, match="no file"):
        backup.restore(fresh.url, tmp_path / "missing")


def test_the_password_is_in_no_argument(monkeypatch, tmp_path):
    url = "postgresql://me:p%40ss@db.example:5433/studies?sslmode=require"
    assert backup.environment(url) == {
        "PGUSER": "me",
        "PGPASSWORD": "p@ss",
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGDATABASE": "studies",
        "PGSSLMODE": "require",
    }
    told = tmp_path / "told"
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {told}\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(backup.BackupFailed):
        backup.backup(url, tmp_path / "dump")
    assert "p@ss" not in told.read_text() and "p%40ss" not in told.read_text()
    assert [path.name for path in tmp_path.iterdir() if "dump" in path.name] == ["pg_dump"]


def test_the_command_backs_up_the_configured_database(case, tmp_path):
    running = case()
    url = tmp_path / "url"
    url.write_text(running.database.url)
    command = [str(Path(sys.executable).with_name("mudman")), "backup", str(tmp_path / "dump")]
    environment = {"MUDMAN_DATABASE_URL_FILE": str(url), "MUDMAN_STATE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "--force" in again.stderr
