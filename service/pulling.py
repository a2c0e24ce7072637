"""A checkpoint from the service to a folder: whole and checked, or not there at all.

Files come into a hidden folder beside the wanted one, go on where an earlier attempt was cut off, are checked against
their hashes, and only then get the name that was asked for.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mudman.faults import MudmanError
from service.client import Client

Document = dict[str, Any]


class PullFailed(MudmanError):
    """The folder is not made; the message says why."""


def pull(client: Client, checkpoint: Document, folder: Path, say: Callable[[str], None] = lambda line: None) -> bool:
    """Download what ``GET …/checkpoints/{n}`` described into ``folder``; False if it is there already, every byte.

    Raises ``PullFailed``, also where something else is in the folder, and what the client raises.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if folder.is_dir() and _is_there(folder, checkpoint):
            return False
        raise PullFailed(f"{folder} is there already and holds something else. Remedy: name a folder that is not")
    partial = folder.parent / f".{folder.name}.{_identity(checkpoint)}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for file in checkpoint["files"]:
            _fetch(client, file, partial, say)
        for stray in {path.name for path in partial.iterdir()} - {file["name"] for file in checkpoint["files"]}:
            (partial / stray).unlink()
        if folder.exists():
            folder.rmdir()  # empty
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise PullFailed(
            f"{folder} cannot be written: {error.strerror or error}. Remedy: make room, or name another folder"
        ) from error
    return True


def _fetch(client: Client, file: Document, partial: Path, say: Callable[[str], None]) -> None:
    name, wanted = file["name"], file["bytes"]
    if Path(name).name != name or name.startswith("."):
        raise PullFailed(f"the service names a file {name!r}, which is no plain name. Remedy: do not trust it")
    path = partial / name
    there = path.stat().st_size if path.exists() else 0
    if there > wanted:
        path.unlink()
        there = 0
    if there < wanted or not path.exists():
        say(f"{name}: {wanted} bytes" + (f", {there} of them are here" if there else ""))
        with path.open("ab") as target:
            for part in client.download(file["href"], there):
                target.write(part)
    if path.stat().st_size != wanted or _digest(path) != file["sha256"]:
        path.unlink()
        raise PullFailed(
            f"{name} did not come as it was kept: its size or SHA-256 is another. Remedy: try again; if it stays so, "
            "the artifact store is damaged"
        )


def _is_there(folder: Path, checkpoint: Document) -> bool:
    files = {file["name"]: file["sha256"] for file in checkpoint["files"]}
    here = {path.name: path for path in folder.iterdir()}
    return here.keys() == files.keys() and all(
        path.is_file() and _digest(path) == files[name] for name, path in here.items()
    )


def _identity(checkpoint: Document) -> str:
    """Of its content: what was begun of another checkpoint is not gone on with."""
    said = "\n".join(sorted(f"{file['name']} {file['sha256']}" for file in checkpoint["files"]))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
