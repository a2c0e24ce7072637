"""One engine per process, one transaction per unit of work, and driver errors translated in one place."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store.impatient import ImpatientConnection
from service.store.tables import OPTUNA_SCHEMA

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3
"""Seconds until a connection attempt, or the wait for a free pooled connection, is given up: a request against a
database that is away is answered within 5 s."""

FROZEN = "10s"
"""After this long idle inside a transaction the server ends the session. A process that was stopped, or whose network
was cut, in the middle of one would keep its locks for ever, and so others from taking over its lease or cancelling."""

# https://www.postgresql.org/docs/18/errcodes-appendix.html
_AWAY = ("08", "25006", "25P03", "57P01", "57P02", "57P03")
"""Among them one that takes no writes: a standby, until it has taken over."""
_EXHAUSTED = "53"
_BUSY = ("57014", "55P03", "40P01", "40001")  # a statement or lock timeout, a deadlock, a serialization failure
_NOT_MIGRATED = ("42P01", "42703", "3F000")


class DatabaseUnavailable(MudmanError):
    """The database cannot be reached right now; the same request may work later. Nothing of it was stored."""


class DatabaseNotMigrated(DatabaseUnavailable):
    """The database answers, but lacks our tables or has those of another version."""


class InvalidDatabaseUrl(MudmanError):
    """The database URL cannot be read, or names another kind of database."""


def driver_url(url: str, settings: dict[str, str] | None = None) -> URL:
    """``url`` for SQLAlchemy with psycopg 3; ``settings`` are server settings of every connection.

    They go into the URL, not into connection arguments: Optuna's own upgrade uses the URL alone. Values must be free
    of spaces. Raises ``InvalidDatabaseUrl``, which never repeats the URL: it holds a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidDatabaseUrl(
            "The database URL cannot be read. Give one like postgresql://user:password@host:5432/database."
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise InvalidDatabaseUrl(f"Only Postgres will do, not {parsed.get_backend_name()}. Give a postgresql:// URL.")
    given = parsed.query.get("options", ())
    options = [*([given] if isinstance(given, str) else given), *(f"-c{k}={v}" for k, v in (settings or {}).items())]
    parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.update_query_dict({"options": " ".join(options)}) if options else parsed


def optuna_url(url: str) -> str:
    """URL under which Optuna itself finds its tables."""
    return driver_url(url, {"search_path": OPTUNA_SCHEMA, "TimeZone": "UTC"}).render_as_string(hide_password=False)


class Database:
    """Connections of one process. Connects at first use; a connection that was cut is replaced before it is used."""

    def __init__(self, url: str, *, pool_size: int = 5, application: str = "mudman", patience: float = 10.0):
        """``patience``: seconds that one statement may take; all of ours take milliseconds."""
        self.url = url
        settings = {
            "TimeZone": "UTC",
            "statement_timeout": f"{patience * 1000:.0f}",
            "idle_in_transaction_session_timeout": FROZEN,
        }
        self._engine = create_engine(
            driver_url(url, settings),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT,
            pool_pre_ping=True,
            connect_args={
                "application_name": application,
                "connect_timeout": CONNECT_TIMEOUT,
                # A peer that vanished without a word (a pulled cable) is noticed in seconds, not hours.
                "tcp_user_timeout": CONNECT_TIMEOUT * 1000,
            },
        )

        @event.listens_for(self._engine, "do_connect")
        def connect(dialect, record, arguments, options):
            return ImpatientConnection.within(patience, *arguments, **options)

        # A round trip before every transaction only where it may tell something.
        ping = self._engine.dialect.do_ping
        self._engine.dialect.do_ping = lambda connection: connection.alive() or ping(connection)

    @contextmanager
    def begin(self, *, snapshot: bool = False) -> Iterator[Session]:
        """ONE transaction: committed at the end, rolled back on any error. Objects stay readable afterwards.
        ``snapshot``: all its statements see the database as it was at the first.

        Raises ``DatabaseUnavailable`` where the database cannot be reached or the connection is lost. Whether a commit
        that was cut off took effect is not known then: every operation of the store may be repeated.
        """
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                if snapshot:
                    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                yield session
        except (DBAPIError, PoolTimeout) as error:
            translated = as_unavailable(error)
            if translated is None:
                raise
            log.warning("%s (%s)", translated, str(getattr(error, "orig", error)).strip())
            raise translated from None

    def close(self) -> None:
        self._engine.dispose()


def as_unavailable(error: Exception) -> DatabaseUnavailable | None:
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("All database connections are busy. Try again in a few seconds.")
    state = getattr(error.orig, "sqlstate", None)
    if state is not None and state in _NOT_MIGRATED:
        return DatabaseNotMigrated("The database is not migrated. Run: python -m service.store.migrate")
    if state in _BUSY:
        return DatabaseUnavailable("The database is too busy to answer in time. Try again in a few seconds.")
    if state is not None and state.startswith(_EXHAUSTED):
        return DatabaseUnavailable(
            "The database has run out of disk, memory or connections. Free some, then try again."
        )
    lost_without_word = state is None and type(error).__name__ in ("OperationalError", "InterfaceError")
    if error.connection_invalidated or lost_without_word or (state or "").startswith(_AWAY):
        return DatabaseUnavailable("The database cannot be reached. Try again in a few seconds.")
    return None
