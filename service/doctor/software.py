"""Python and the packages: what is installed against what this version of mudman asks for."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from service.doctor import Finding

WATCHED = ("optuna", "sqlalchemy", "psycopg", "ray", "torch")
"""Packages that the rest depends on by version; Ray and torch are absent where only the API runs."""
REQUIREMENTS = Path(__file__).parents[2] / "requirements"
"""Of a checkout; an installed package has none."""


def checks() -> Iterator[Finding]:
    asked = _asked()
    yield python(platform.python_version())
    for name in WATCHED:
        yield package(name, asked.get(name), pinned(REQUIREMENTS, name))


def python(found: str) -> Finding:
    ok = found in SpecifierSet(">=3.11")
    return Finding("python", ok, found, None if ok else "install Python 3.11 or newer, and mudman in it")


def package(name: str, asked: SpecifierSet | None, locked: str | None) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, None, "not installed")
    if asked is not None and found not in asked:
        remedy = f"pip install '{name}{asked}', or install mudman anew"
        return Finding(name, False, f"{found}, where {asked} is asked for", remedy)
    # What stands behind a plus sign is the build: for a CUDA version, or for CPU only.
    if locked is not None and found.partition("+")[0] != locked:
        return Finding(name, False, f"{found}, and {locked} is locked", "make setup (or pip install -r the lock)")
    return Finding(name, True, found)


def pinned(folder: Path, name: str) -> str | None:
    """The version in the lock, if there is one."""
    for file in ("all.lock", "torch.txt"):
        if (folder / file).is_file():
            for line in (folder / file).read_text("utf-8").splitlines():
                if line.startswith(f"{name}=="):
                    return line.removeprefix(f"{name}==").split()[0]
    return None


def _asked() -> dict[str, SpecifierSet]:
    """Of all extras together: the metadata of the installed package has them wherever it runs."""
    read = [Requirement(line) for line in requires("mudman") or []]
    return {one.name.lower(): one.specifier for one in read if one.specifier}
