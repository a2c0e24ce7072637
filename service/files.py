"""Files that are written where a user says: what is in the way is told in words, with the name of the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mudman.faults import MudmanError


class NotWritten(MudmanError):
    """The file cannot be written there; the message says why."""

    def __init__(self, file: Path, reason: str):
        super().__init__(
            f"{file} cannot be written: {reason}. Remedy: name a file in a folder that is there and that you may write"
        )
        self.file, self.reason = file, reason

    def __reduce__(self):
        return NotWritten, (self.file, self.reason)


def check(file: Path) -> None:
    """Before anything is made for it. Raises ``NotWritten``."""
    if not file.parent.is_dir():
        raise NotWritten(file, f"there is no folder {file.parent}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise NotWritten(file, "permission denied")


def write(file: Path, content: bytes) -> None:
    """Raises ``NotWritten``."""
    with _explained(file):
        file.write_bytes(content)


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """Of any size, written down as it comes; the file is there only once it is whole. Raises ``NotWritten``."""
    unfinished = file.with_name(file.name + ".part")
    try:
        with _explained(file):
            with unfinished.open("wb") as kept:
                yield kept
            unfinished.replace(file)
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(file, error.strerror or str(error)) from error
