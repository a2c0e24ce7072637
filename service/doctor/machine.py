"""This machine: room, permissions, shared memory, and the secret that keeps strangers out of Ray."""

import importlib.util
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mudman.artifacts import Artifacts, ArtifactsUnavailable
from service.doctor import Finding, Site, broken

ROOM = 1_000_000_000
"""Bytes that should be free for database and logs."""
SHARED_MEMORY = 200_000_000
"""Bytes of Ray's object store, which lies there."""
MOUNTED_SECRETS = Path("/run/secrets")
"""Container engines mount secrets with modes of their own, and each container sees only its own."""


def checks(site: Site) -> Iterator[Finding]:
    yield state_folder(site.settings.state_dir)
    yield room(site.settings.state_dir)
    yield data_root(site.settings.data_root, dispatches=site.settings.ray_address != "auto")
    yield artifacts(site.settings.artifacts)
    if importlib.util.find_spec("ray") is None:
        yield Finding("shared memory", None, "Ray is not installed here")
    else:
        yield shared_memory(Path("/dev/shm"))
    embedded = site.settings.state_dir / "ray-token"
    if token := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        yield ray_token(Path(token), os.environ.get("RAY_AUTH_MODE"))
    elif embedded.exists():
        yield ray_token(embedded, "token")  # the supervisor sets the mode itself
    else:
        yield Finding("ray token", None, "no Ray is configured here")


def state_folder(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("state folder", None, f"there is no {folder}; `mudman up` makes it")
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = "make it writable for this user, or set MUDMAN_STATE_DIR to a folder that is"
        return Finding("state folder", False, f"{folder} may not be written", remedy)
    for secret in ("database-url", "ray-token", "runner-database-url"):
        path = folder / secret
        if path.exists() and (mode := _open_to_others(path)):
            return Finding("state folder", False, f"{path} has mode {mode}: others can read it", f"chmod 600 {path}")
    return Finding("state folder", True, str(folder))


def room(folder: Path, wanted: float = ROOM) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    if free < wanted:
        remedy = f"free {wanted / 1e9:g} GB, or set MUDMAN_STATE_DIR to a folder on another disk"
        return Finding("disk", False, f"{free / 1e9:.1f} GB free for {folder}", remedy)
    return Finding("disk", True, f"{free / 1e9:.1f} GB free")


def data_root(folder: Path, *, dispatches: bool = False) -> Finding:
    """``dispatches``: here runs a dispatcher of a cluster, which reads nothing below it: API and workers do."""
    if dispatches and not folder.exists():
        return Finding("data root", None, f"there is no {folder}; a dispatcher needs none")
    if not folder.is_dir():
        return Finding("data root", False, f"{folder} is no folder", "make it, or correct MUDMAN_DATA_ROOT")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding("data root", False, f"{folder} may not be read", f"let this user read it: chmod a+rX {folder}")
    return Finding("data root", True, str(folder))


def artifacts(place: str | None) -> Finding:
    """Whether the place where checkpoints are kept answers; the API's may be one that it only reads."""
    if place is None:
        return Finding("artifacts", None, "no place of checkpoints is configured (`mudman up` has one of its own)")
    try:
        Artifacts(place).keys("check")
    except ArtifactsUnavailable as error:
        return broken("artifacts", error)
    return Finding("artifacts", True, place)


def shared_memory(folder: Path, wanted: float = SHARED_MEMORY) -> Finding:
    if not folder.is_dir():
        return Finding("shared memory", None, f"there is no {folder}")
    total = shutil.disk_usage(folder).total
    if total < wanted:
        remedy = "give the container more: docker run --shm-size=512m (Compose: shm_size)"
        return Finding("shared memory", False, f"{total / 1e6:.0f} MB, and Ray takes {wanted / 1e6:.0f}", remedy)
    return Finding("shared memory", True, f"{total / 1e6:.0f} MB")


def ray_token(path: Path, mode: str | None) -> Finding:
    if mode != "token":
        found = f"RAY_AUTH_MODE is {mode or 'not set'}: whoever reaches Ray can run programs in it"
        return Finding("ray token", False, found, "set RAY_AUTH_MODE=token on every node")
    try:
        empty = not path.read_text("utf-8").strip()
    except OSError as error:
        remedy = "correct RAY_AUTH_TOKEN_PATH or the file's permissions"
        return Finding("ray token", False, f"cannot read {path}: {error.strerror}", remedy)
    if empty:
        return Finding("ray token", False, f"{path} is empty", "write a long random text into it, the same everywhere")
    if not path.is_relative_to(MOUNTED_SECRETS) and (mode := _open_to_others(path)):
        return Finding("ray token", False, f"{path} has mode {mode}: others can read it", f"chmod 600 {path}")
    return Finding("ray token", True, str(path))


def _open_to_others(path: Path) -> str | None:
    """The file's mode, if anybody but its owner may read or write it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{mode:04o}" if mode & 0o077 else None


def _nearest(folder: Path) -> Path:
    """The folder, or the one in which it would be made."""
    return next(place for place in (folder, *folder.parents) if place.exists())
