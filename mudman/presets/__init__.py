"""Packaged study specs: one YAML file each, named by its file."""

import copy
from importlib import resources
from typing import Any

from mudman.documents import read_yaml
from mudman.faults import SpecError


def names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files(__name__).iterdir()
        if entry.name.endswith(".yaml")
    )


def load(name: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The preset as a document, with overrides laid over it.

    Keys of ``overrides`` may be dotted (``budget.trials: 8``); mappings are merged, everything else replaces. A range
    replaced by a range is replaced whole, and so is a mapping of another ``type``. Raises ``SpecError`` for an unknown
    name.
    """
    if name not in names():
        raise SpecError.at("preset", f"there is no preset {name!r}", f"one of {', '.join(names())}")
    document = read_yaml(resources.files(__name__).joinpath(f"{name}.yaml").read_text("utf-8"))
    return merged(document, overrides or {})


def merged(document: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``document`` with ``overrides`` laid over it, as ``load`` describes."""
    result = copy.deepcopy(document)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        place = result
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        old = place.get(last)
        if isinstance(value, dict) and isinstance(old, dict) and not _replaces(value, old):
            place[last] = merged(old, value)
        else:
            place[last] = copy.deepcopy(value)
    return result


def _replaces(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether settings of the old mapping mean nothing beside the new one: another range, another variant."""
    return "low" in new or new.get("type", old.get("type")) != old.get("type")
