"""Logs of the embedded system's processes: their last lines, and what becomes of long ones."""

import contextlib
import os
import shutil
from pathlib import Path

LARGEST = 10_000_000
"""Bytes of a log that is put aside; a minute's words may come on top."""


def tail(log: Path, start: int = 0, lines: int = 15) -> str:
    """The last lines of a log, from byte ``start`` on; of one that was put aside since, from its beginning."""
    try:
        with open(log, "rb") as file:
            file.seek(beginning(os.fstat(file.fileno()).st_size, start, 8000))
            return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""


def beginning(size: int, start: int, most: int) -> int:
    """Where to begin to read the last ``most`` bytes of those from ``start`` on."""
    return max(start if start <= size else 0, size - most)


def rotate(logs: Path, largest: int = LARGEST) -> None:
    """Put long logs aside, one generation, also while they are written.

    Copied and cut, not renamed: a process that holds its log open would go on in the renamed one. All of them append,
    so that they go on at the new end. Lines of the moment between copy and cut are lost.
    """
    logs.mkdir(exist_ok=True, mode=0o700)
    for log in logs.glob("*.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > largest:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)
