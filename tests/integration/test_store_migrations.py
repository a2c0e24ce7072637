"""Migrations: complete, repeatable, reversible, and safe with several callers."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from mudman import presets
from mudman.specs.comparison import parse_comparison
from service.store import comparisons
from service.store import migrate as migrations
from service.store.database import Database, DatabaseNotMigrated, DatabaseUnavailable, driver_url


def _tables(connection) -> set[str]:
    query = text("select schemaname || '.' || tablename from pg_tables where schemaname in ('mudman', 'optuna')")
    return set(connection.execute(query).scalars())


@pytest.fixture
def url(postgres) -> str:
    return postgres.create(template="template1")


@pytest.fixture
def connection(url):
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def test_up_without_drift_down_and_up_again(url, connection):
    migrations.migrate(url)
    migrated = _tables(connection)
    assert {"mudman.study", "mudman.trial", "mudman.study_group", "optuna.trials"} <= migrated
    command.check(migrations.alembic_config(connection))  # raises where tables.py says otherwise

    connection.rollback()
    migrations.downgrade(connection, "base")
    left = _tables(connection)
    assert {name for name in left if name.startswith("mudman.")} == {"mudman.mudman_version"}
    assert "optuna.trials" in left
    triggers = text("select count(*) from pg_trigger where tgname = 'refuse_stale_epoch'")
    assert connection.execute(triggers).scalar_one() == 0

    connection.rollback()
    migrations.upgrade(connection)
    assert _tables(connection) == migrated
    command.check(migrations.alembic_config(connection))


def test_studies_outlive_the_comparisons_that_older_versions_do_not_know(url, connection):
    migrations.migrate(url)
    database = Database(url)
    document = presets.load("quickstart") | {"variants": {"sign": {}}}
    with database.begin() as session:
        comparisons.create(session, parse_comparison(document), idempotency_key="key")
    database.close()
    migrations.downgrade(connection, "0002")
    left = connection.execute(text("select name from mudman.study order by name")).scalars().all()
    assert left == ["quickstart/baseline", "quickstart/sign"]
    # A key that an older version stored.
    query = "select owner, 'older', spec_hash, id from mudman.study where name = 'quickstart/sign'"
    connection.execute(text(f"insert into mudman.idempotency_key (owner, key, request_hash, study_id) {query}"))
    connection.commit()
    migrations.upgrade(connection)
    kept = connection.execute(text("select count(*) from mudman.study where comparison_id is null")).scalar_one()
    assert kept == 2
    query = "select key, name from mudman.idempotency_key join mudman.study on study.id = study_id"
    assert connection.execute(text(query)).all() == [("older", "quickstart/sign")]


def test_several_at_once_and_again(url):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrations.migrate, url) for _ in range(4)]:
            done.result()
    migrations.migrate(url)
    database = Database(url)
    with database.begin() as session:
        assert migrations.is_current(session)
    database.close()


def test_is_current_tells_old_from_new(url, connection):
    database = Database(url)
    with database.begin() as session:
        assert not migrations.is_current(session)
    with pytest.raises(DatabaseNotMigrated, match=r"service\.store\.migrate"), database.begin() as session:
        session.execute(text("select * from mudman.study"))
    migrations.migrate(url)
    migrations.downgrade(connection, "0001")
    with database.begin() as session:
        assert not migrations.is_current(session)
    database.close()


def test_a_newer_database_is_left_alone(url, connection):
    migrations.migrate(url)
    connection.execute(text("update mudman.mudman_version set version_num = '9999'"))
    connection.commit()
    with pytest.raises(migrations.NewerDatabase, match="Update"):
        migrations.migrate(url)


def _run(url: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"MUDMAN_DATABASE_URL": url}
    command = [sys.executable, "-m", "service.store.migrate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_as_a_command(url, tmp_path):
    assert _run(url).returncode == 0
    database = Database(url)
    with database.begin() as session:
        assert migrations.is_current(session)
    database.close()
    failed = _run(f"postgresql:///nothing?host={tmp_path}&user=me&password=secret")
    assert failed.returncode == 1
    assert "cannot be reached" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "secret" not in failed.stderr


def test_no_database_is_said(tmp_path):
    with pytest.raises(DatabaseUnavailable):
        migrations.migrate(f"postgresql:///nothing?host={tmp_path}&user=nobody")
