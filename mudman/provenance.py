"""What ran, and on what: the code by commit and hash, the machine by its processor and cards, a model by its files."""

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

_PACKAGE = Path(__file__).parent
COMMIT = "MUDMAN_COMMIT"
"""Environment variable with the commit that an image was built from."""


@cache
def code() -> dict[str, str | None]:
    """``version``; ``commit``, with ``+changes`` where tracked files differ from it, null where nobody knows it; and
    ``sha256`` over the core's source files, which is always known."""
    return {"version": version("mudman"), "commit": _commit(), "sha256": _source_hash(_PACKAGE)}


@cache
def hardware() -> dict[str, str | int | None]:
    """``host``, ``processor``, ``cores``, ``cards`` (NVIDIA's, by name; null without any), ``system``."""
    return {
        "host": platform.node(),
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "cards": _cards(Path("/proc/driver/nvidia/gpus")),
        "system": f"{platform.system()} {platform.machine()}",
    }


def file_hashes(folder: Path, patterns: list[str]) -> dict[str, str]:
    """SHA-256 of the files in ``folder`` that a pattern names, as ``sha256sum`` gives it, by name."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    hashes = {}
    for path in found:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _commit() -> str | None:
    """As the image says, else as the repository that the code lies in, else as pip wrote it down (PEP 610)."""
    if said := os.environ.get(COMMIT):
        return said
    if (_PACKAGE.parent / ".git").exists():
        head = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no") if head else None
        return head and head + "+changes" * bool(changes)
    try:
        told = distribution("mudman").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(told).get("vcs_info", {}).get("commit_id") if told else None


def _git(*arguments: str) -> str | None:
    """None where there is no git, or it does not trust the folder."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_PACKAGE.parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _source_hash(package: Path) -> str:
    """SHA-256 over names and contents, in the order of names."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def _processor(told: Path) -> str | None:
    """The model's name, as Linux tells it; else what the system calls it."""
    return _told(told, "model name") or platform.processor() or None


def _cards(told: Path) -> str | None:
    """As the driver tells them, without loading torch."""
    names = [name for path in sorted(told.glob("*/information")) if (name := _told(path, "Model"))]
    return ", ".join(names) or None


def _told(path: Path, key: str) -> str | None:
    """Value of the first line ``key: value`` of a file of the kernel."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), None)
