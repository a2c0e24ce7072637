"""Handing the database URL to a runner: by a file that only its owner can read, never by argv or environment."""

import os
import tempfile
from pathlib import Path

from service.store.settings import PREFIX, Settings

_URL, _FILE = f"{PREFIX}DATABASE_URL", f"{PREFIX}DATABASE_URL_FILE"


def handed_over(settings: Settings) -> dict[str, str]:
    """This process's environment for a child, with the URL taken out and the name of its file put in."""
    environment = {name: value for name, value in os.environ.items() if name.upper() not in (_URL, _FILE)}
    return environment | {_FILE: str(_url_file(settings))}


def _url_file(settings: Settings) -> Path:
    if settings.database_url is None and settings.database_url_file is not None:
        return settings.database_url_file
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that no runner ever reads half of it; mkstemp gives mode 0600.
    handle, draft = tempfile.mkstemp(dir=settings.state_dir, prefix=".database-url-")
    with os.fdopen(handle, "w") as file:
        file.write(settings.read_database_url())
    path = settings.state_dir / "runner-database-url"
    os.replace(draft, path)
    return path
