"""The database: does it answer, is it the right one, do its clock and its tables agree with ours."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from sqlalchemy import text
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.doctor import Finding, Site, access, broken
from service.store import migrate
from service.store.database import Database, DatabaseUnavailable
from service.store.tables import OPTUNA_SCHEMA

MAJOR = 18
"""Of Postgres, in what we package; older ones down to 15 are known to work."""
OLDEST = 15
_NEWER = "update this installation (pip, or the images) to that version at least; the database needs nothing"
SKEW = 5.0
"""Seconds between two clocks at which logs of one event no longer stand beside each other."""


def checks(site: Site) -> Iterator[Finding]:
    if site.database_url is None:
        return
    try:
        with closing(Database(site.database_url, application="mudman-doctor")) as database, database.begin() as session:
            where = session.execute(text("select current_database(), inet_server_addr()")).one()
            yield Finding("database", True, f"{where[0]} at {where[1] or 'a socket of this machine'}")
            yield version(session)
            yield clock(session)
            yield migrations(session)
            yield optuna(session)
            if migrate.is_current(session):
                yield from access.checks(session, site.settings)
    except DatabaseUnavailable as error:
        says = "the address is in the settings; is the server up, and may this machine reach it?"
        yield Finding("database", False, str(error), says)
    except MudmanError as error:
        yield broken("database", error)


def version(session: Session, oldest: int = OLDEST) -> Finding:
    major = session.scalar(text("select current_setting('server_version_num')::int / 10000"))
    ok = major >= oldest
    return Finding("Postgres", ok, str(major), None if ok else f"move to Postgres {MAJOR}: pg_dump and restore")


def clock(session: Session, ours: Callable[[], float] = time.time) -> Finding:
    before = ours()
    theirs = session.scalar(text("select extract(epoch from clock_timestamp())::float8"))
    skew = theirs - (before + ours()) / 2
    if abs(skew) > SKEW:
        says = f"the database's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        return Finding("clock", False, says, "synchronise both machines (chrony, systemd-timesyncd)")
    return Finding("clock", True, f"{abs(skew):.1f} s apart")


def migrations(session: Session) -> Finding:
    if migrate.is_current(session):
        return Finding("migrations", True, migrate.head())
    if newer := migrate.unknown(session):
        return Finding("migrations", False, f"a newer version of mudman made the tables ({newer})", _NEWER)
    return Finding("migrations", False, "not this version's tables", "python -m service.store.migrate")


def optuna(session: Session) -> Finding:
    table = f"{OPTUNA_SCHEMA}.alembic_version"
    if session.scalar(text("select to_regclass(:table)"), {"table": table}) is None:
        return Finding("Optuna's tables", False, "there are none", "python -m service.store.migrate")
    found, (head, *older) = session.scalar(text(f"select version_num from {table}")), _optuna_revisions()
    if found == head:
        return Finding("Optuna's tables", True, found)
    remedy = "python -m service.store.migrate" if found in older else _NEWER
    return Finding("Optuna's tables", False, f"{found}, not {head}", remedy)


def _optuna_revisions() -> list[str]:
    """The newest first. From Optuna's own migrations: asking its storage would create tables."""
    from importlib.resources import files

    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(files("optuna.storages._rdb") / "alembic").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
