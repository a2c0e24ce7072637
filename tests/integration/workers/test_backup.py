"""A backup of a study that is being searched, restored elsewhere, where the search goes on as if nothing had been."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from cases import result_of
from optuna.storages import RDBStorage
from sqlalchemy import func, select, text, update

from service.store import backup, leases, postgres_programs
from service.store.cluster_tables import Dispatcher
from service.store.database import Database, optuna_url
from service.store.migrate import NewerDatabase
from service.store.optuna_rows import STATES
from service.store.tables import Group, Study, Trial
from workers.study import StudyInHand


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
    running = case(trials=10_000)
    study = running.take_over()
    search(study, 4)
    writing, dumped = threading.Event(), threading.Event()

    def write() -> int:
        """From before the dump begins until after its end."""
        done = 0
        while not dumped.is_set():
            attempt = study.next()
            writing.set()
            study.settle(attempt, result_of(study, attempt))
            done += 1
        return done

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        try:
            assert writing.wait(30)
            assert backup.backup(running.database.url, tmp_path / "dump") > 10_000
        finally:
            dumped.set()
        assert written.result(60) > 1
    search(study, 4)
    undisturbed = table(running.database, running.id)
    assert (tmp_path / "dump").stat().st_mode & 0o077 == 0

    assert backup.restore(empty.url, tmp_path / "dump") == 1
    before = table(empty, running.id)
    assert 4 <= len(before) < len(undisturbed)
    assert before == undisturbed[: len(before)]
    agrees_with_optuna(empty, running.id)
    with empty.begin() as session:
        assert session.scalar(select(func.count()).select_from(Dispatcher)) == 0
        lease = leases.claim(session, "another", 60)
    assert lease.epoch > running.lease.epoch
    search(StudyInHand(empty, lease, running.id), len(undisturbed) - len(before))
    assert table(empty, running.id) == undisturbed
    agrees_with_optuna(empty, running.id)


def agrees_with_optuna(database: Database, study_id: str) -> None:
    """Every attempt as Optuna itself reads it; and whoever asks it next gets the next number."""
    with database.begin() as session:
        rows = list(session.scalars(select(Trial).where(Trial.study_id == study_id).order_by(Trial.optuna_id)))
    storage = RDBStorage(optuna_url(database.url))
    try:
        study = optuna.load_study(study_name=study_id, storage=storage)
        found = study.trials
        assert [trial._trial_id for trial in found] == [row.optuna_id for row in rows]
        assert [trial.number for trial in found] == list(range(len(rows)))
        for trial, row in zip(found, rows, strict=True):
            assert trial.state.name == (STATES[row.outcome] if row.outcome else "RUNNING")
            assert trial.params == row.hyperparameters
            assert trial.value == (row.value if row.outcome == "valid" else None)
            assert trial.user_attrs["ordinal"] == row.ordinal
        asked = study.ask()
        assert asked.number == len(rows)
        forget_asking(database, asked._trial_id)
    finally:
        storage.engine.dispose()


def forget_asking(database: Database, trial_id: int) -> None:
    """As if nobody had asked."""
    with database.begin() as session:
        session.execute(text("delete from optuna.trials where trial_id = :id"), {"id": trial_id})


def everything(database: Database) -> dict[str, int]:
    """Tables of ours and of Optuna's, and how many rows each has."""
    names = text(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('mudman', 'optuna')"
    )
    with database.begin() as session:
        return {name: session.scalar(text(f"select count(*) from {name}")) for name in session.scalars(names).all()}


@pytest.mark.parametrize("missing", [40, 4000])
def test_a_backup_that_was_cut_off_changes_nothing(case, new_database, tmp_path, missing):
    running, fresh = case(), new_database()
    search(running.take_over(), 4)
    backup.backup(running.database.url, tmp_path / "dump")
    whole = (tmp_path / "dump").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-missing])
    before = everything(fresh)
    with pytest.raises(backup.BackupFailed, match=r"pg_restore failed: .*Nothing was changed"):
        backup.restore(fresh.url, tmp_path / "cut")
    assert everything(fresh) == before
    assert backup.restore(fresh.url, tmp_path / "dump") == 1


def test_what_the_server_refuses_changes_nothing(case, new_database, tmp_path):
    running, fresh = case(), new_database()
    backup.backup(running.database.url, tmp_path / "dump")
    with fresh.begin() as session:
        session.execute(
            text(
                "create function public.refuse() returns event_trigger language plpgsql as "
                "$$ begin raise exception 'not here'; end $$"
            )
        )
        session.execute(
            text(
                "create event trigger refuse on ddl_command_end when tag in ('CREATE INDEX') "
                "execute function public.refuse()"
            )
        )
    before = everything(fresh)
    with pytest.raises(backup.BackupFailed, match=r"psql failed: (?s:.*)not here"):
        backup.restore(fresh.url, tmp_path / "dump")
    assert everything(fresh) == before


@pytest.mark.parametrize("most", [0, 20_000])
def test_a_reader_that_is_killed_changes_nothing(case, new_database, tmp_path, monkeypatch, most):
    running, fresh = case(), new_database()
    backup.backup(running.database.url, tmp_path / "dump")
    whole = postgres_programs.program("pg_restore")
    shells = {
        "pg_restore": f'{whole} "$@" | head -c {most}; kill -9 $$',
        "psql": f'exec {whole.with_name("psql")} "$@"',
    }
    for name, does in shells.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    before = everything(fresh)
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        patch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(backup.BackupFailed, match="pg_restore failed: it ended with status -9"):
            backup.restore(fresh.url, tmp_path / "dump")
    assert everything(fresh) == before


def test_a_backup_of_a_newer_version_changes_nothing(case, new_database, tmp_path):
    running, fresh = case(), new_database()
    with running.database.begin() as session:
        session.execute(text("update mudman.mudman_version set version_num = '9999'"))
    backup.backup(running.database.url, tmp_path / "dump")
    before = everything(fresh)
    with pytest.raises(NewerDatabase, match="Update"):
        backup.restore(fresh.url, tmp_path / "dump")
    assert everything(fresh) == before


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
    assert postgres_programs.environment(url) == {
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
