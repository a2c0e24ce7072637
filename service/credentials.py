"""The token that the command line and the client show to the API: from ``MUDMAN_TOKEN``, a setting, or a file that only
its owner can read. Never from an argument: every user of a machine sees those."""

import os
import stat
from pathlib import Path

from service.store.settings import Settings, SettingsError


def find(settings: Settings | None = None) -> str | None:
    """None: there is none. Raises ``SettingsError`` for a file that others can read, or that was named and is not
    there."""
    settings = settings or Settings()
    if settings.token is not None:
        return settings.token.get_secret_value().strip()
    path = settings.token_file or default_file()
    if path is None or (settings.token_file is None and not path.exists()):
        return None
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            value = file.read(10_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token in {path} cannot be read: {error}. Remedy: correct MUDMAN_TOKEN_FILE") from None
    if mode & 0o077:
        raise SettingsError(f"{path} has mode {mode:04o}: others can use the token in it. Remedy: chmod 600 {path}")
    return value or None


def default_file() -> Path | None:
    """None: this user has no home folder."""
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mudman" / "token"
    except RuntimeError:
        return None


def save(value: str, settings: Settings | None = None) -> Path:
    """Where ``find`` looks; replaces what is there. Raises ``SettingsError``."""
    path = (settings or Settings()).token_file or default_file()
    if path is None:
        raise SettingsError("this user has no home folder. Remedy: set MUDMAN_TOKEN_FILE to a file that it may write")
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}. Remedy: set MUDMAN_TOKEN_FILE") from None
    return path
