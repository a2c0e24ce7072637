"""Connections to a real server that is restarted, frozen, or kept waiting."""

import os
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store.database import Database, DatabaseUnavailable


def _server_processes(database) -> list[int]:
    with database.begin() as session:
        backend = session.scalar(text("select pg_backend_pid()"))
    postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def test_times_are_utc(database):
    with database.begin() as session:
        assert session.scalar(text("show timezone")) == "UTC"
        assert session.scalar(text("select now()")).utcoffset().total_seconds() == 0


def test_an_error_rolls_everything_back(database):
    with pytest.raises(ZeroDivisionError), database.begin() as session:
        session.execute(text("create table mudman.scratch (x int)"))
        raise ZeroDivisionError
    with database.begin() as session:
        assert session.scalar(text("select to_regclass('mudman.scratch')")) is None


def test_connections_that_were_cut_are_replaced(postgres, new_database):
    database = new_database()
    with database.begin() as session:
        session.execute(text("select 1"))
    postgres.stop()
    postgres.start()
    with database.begin() as session:
        assert session.scalar(text("select 1")) == 1


def test_a_connection_lost_inside_a_transaction_is_unavailable(postgres, new_database):
    database = new_database()
    with pytest.raises(DatabaseUnavailable), database.begin() as session:
        pid = session.scalar(text("select pg_backend_pid()"))
        postgres.execute(f"select pg_terminate_backend({pid})")
        session.execute(text("select 1"))


def test_a_server_that_takes_no_writes_is_unavailable(new_database):
    """A standby, until it has taken over."""
    database = new_database()
    with pytest.raises(DatabaseUnavailable), database.begin() as session:
        session.execute(text("set transaction read only"))
        session.execute(text("create table mudman.scratch (x int)"))


def test_a_frozen_server_is_given_up_and_taken_back(new_database):
    database = new_database(patience=0.5)
    processes = _server_processes(database)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"), database.begin() as session:
            session.execute(text("select 1"))
        assert time.monotonic() - started < 8
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    with database.begin() as session:
        assert session.scalar(text("select 1")) == 1


def test_a_statement_that_takes_too_long_is_given_up(new_database):
    database = new_database(patience=0.3)
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="too busy"), database.begin() as session:
        session.execute(text("select pg_sleep(30)"))
    assert time.monotonic() - started < 3


def test_a_missing_database_is_unavailable(postgres):
    database = Database(postgres.url("nothing"))
    with pytest.raises(DatabaseUnavailable), database.begin() as session:
        session.execute(text("select 1"))
    database.close()
