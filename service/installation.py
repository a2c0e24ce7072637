"""Which database a command that runs beside the system means: the configured one, or that of the embedded system."""

import fcntl
from pathlib import Path

from service import endpoint
from service.endpoint import Endpoint
from service.store.settings import Settings, SettingsError


def embedded(settings: Settings) -> Endpoint | None:
    """The embedded system of the state folder, if it runs."""
    found = endpoint.read(settings.state_dir)
    return found if found and is_held(settings.state_dir) is not False else None


def database_url(settings: Settings) -> str:
    """Raises ``SettingsError`` where no database is configured and no embedded system runs."""
    if settings.database_url is not None or settings.database_url_file is not None:
        return settings.read_database_url()
    found = embedded(settings)
    if found is None:
        raise SettingsError(
            f"no database is configured, and no embedded system runs in {settings.state_dir}. Remedy: start it with "
            "`mudman up`, or set MUDMAN_DATABASE_URL_FILE to a file that holds postgresql://user:password@host/database"
        )
    return Settings(database_url_file=Path(found.database_url_file)).read_database_url()


def is_held(state_dir: Path) -> bool | None:
    """A supervisor holds the lock of its state folder for as long as it lives, and the kernel frees it; the number of
    its process may be another's after that. None: cannot be told."""
    try:
        with (state_dir / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False
