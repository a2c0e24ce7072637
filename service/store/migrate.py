"""Bring a database to this version: Optuna's tables in their schema, then ours. Safe with several callers at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from mudman.faults import MudmanError
from service.store.database import CONNECT_TIMEOUT, DatabaseUnavailable, driver_url, optuna_url
from service.store.tables import OPTUNA_SCHEMA, SCHEMA

VERSION_TABLE = "mudman_version"
"""Ours, beside Optuna's own: the two histories must never meet in one table."""
_LOCK = 0x6D75646D616E  # "mudman": one migration at a time in a database


class NewerDatabase(MudmanError):
    """The database was migrated by a newer mudman than this one."""


def migrate(url: str) -> None:
    """Create or upgrade everything. Raises ``DatabaseUnavailable`` or ``NewerDatabase``; may be repeated."""
    with alone(url) as connection:
        for schema in (OPTUNA_SCHEMA, SCHEMA):
            connection.execute(text(f"create schema if not exists {schema}"))
        connection.commit()
        _create_optuna_tables(url)
        upgrade(connection)


@contextmanager
def alone(url: str) -> Iterator[Connection]:
    """A connection under which nobody else migrates. Raises ``DatabaseUnavailable``."""
    engine = create_engine(
        driver_url(url, {"TimeZone": "UTC"}), poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT}
    )
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {str(error.orig).strip()}") from None
    with connection:
        # A session lock, not one of a transaction: Optuna creates its tables on a connection of its own.
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        yield connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Our own tables alone, up to ``revision``."""
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(connection), revision)
    except CommandError as error:
        if "Can't locate revision" not in str(error):
            raise
        raise NewerDatabase(
            "The database was migrated by a newer version of mudman. Update this installation to at least that version."
        ) from error
    connection.commit()


def downgrade(connection: Connection, revision: str) -> None:
    """Our own tables alone, down to ``revision``; Optuna's stay."""
    from alembic import command

    command.downgrade(alembic_config(connection), revision)
    connection.commit()


def is_current(session: Session) -> bool:
    """Whether the database has exactly the tables that this version expects."""
    table = f"{SCHEMA}.{VERSION_TABLE}"
    if session.execute(text("select to_regclass(:table)"), {"table": table}).scalar_one() is None:
        return False
    return session.execute(text(f"select version_num from {table}")).scalars().all() == [head()]


def unknown(session: Session) -> str | None:
    """The revision of a database that a newer version has migrated."""
    table = f"{SCHEMA}.{VERSION_TABLE}"
    if session.execute(text("select to_regclass(:table)"), {"table": table}).scalar_one() is None:
        return None
    found = session.execute(text(f"select version_num from {table}")).scalars()
    return next((revision for revision in found if revision not in revisions()), None)


@cache
def head() -> str:
    """Newest revision that this version knows."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def revisions() -> list[str]:
    """Every revision that this version knows."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


def alembic_config(connection: Connection | None = None):
    # Imported where it is used, like Optuna below: the API imports this module for ``is_current`` and starts lightly.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _create_optuna_tables(url: str) -> None:
    from optuna.storages import RDBStorage

    storage = RDBStorage(optuna_url(url), engine_kwargs={"poolclass": NullPool}, skip_compatibility_check=True)
    # Only where it is needed: Optuna's upgrade reconfigures the logging of the whole process.
    if storage.get_current_version() != storage.get_head_version():
        storage.upgrade()
    storage.remove_session()


def main() -> None:
    """Migrate the database of the settings; what went wrong is said in a sentence, with exit status 1."""
    from service.store.settings import Settings

    try:
        migrate(Settings().read_database_url())
    except MudmanError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
