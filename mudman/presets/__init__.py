"""Packaged specs: studies and comparisons, one file per experiment.

A file is one study under the file's name, or a family: ``presets`` by name, and ``parts`` that they are put together
from. An entry may say ``extends`` (one name or several of presets and parts, laid over each other in that order) and
``about`` (description, source, aliases, code_commit, expected), which is no part of the spec.
"""

import copy
import difflib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import takewhile
from typing import Any, Literal

from mudman.documents import read_yaml
from mudman.faults import SpecError

Document = dict[str, Any]


@dataclass(frozen=True)
class About:
    """What a preset says of itself."""

    name: str
    kind: Literal["study", "comparison"]
    description: str
    source: str | None
    """Paper and figure or table."""
    code_commit: str | None
    """Commit of the published code that the settings come from."""
    aliases: tuple[str, ...]
    """Other names: figure numbers differ between versions of the paper. One may lead to a variant."""
    variants: tuple[str, ...]
    expected: dict[str, str] = field(default_factory=dict)
    """Published result by variant; ``baseline`` is relearning without unlearning."""


def names() -> list[str]:
    return sorted(_read()["presets"])


@cache
def aliases() -> dict[str, str]:
    """Alias → name of a preset, or ``name:variant``."""
    found = {}
    for name, entry in _read()["presets"].items():
        said = entry.get("about", {})
        found |= dict.fromkeys(said.get("aliases", ()), name)
        for variant, pattern in said.get("variant_aliases", {}).items():
            for each in _composed(name)["variants"] if variant == "*" else [variant]:
                found[pattern.format(each.replace("_", "-"))] = f"{name}:{each}"
    return found


def about(name: str) -> About:
    """Raises ``SpecError`` for an unknown name."""
    name, _ = _canonical(name)
    document = _composed(name)
    said, own = document["about"], _read()["presets"][name].get("about", {})
    return About(
        name=name,
        kind="comparison" if "variants" in document else "study",
        description=" ".join(said["description"].split()),
        source=said.get("source"),
        code_commit=said.get("code_commit"),
        aliases=tuple(alias for alias, target in aliases().items() if target.partition(":")[0] == name),
        variants=tuple(document.get("variants", ())),
        expected=own.get("expected", {}),
    )


def published(name: str | None) -> dict[str, str]:
    """Published results by variant of a preset, if it is one that is known here."""
    return about(name).expected if name in names() else {}


def load(name: str, overrides: Document | None = None, variant: str | None = None) -> Document:
    """The preset as a document that can be posted, with overrides laid over it.

    ``name`` may be an alias, or ``preset:variant``: one variant of a comparison as a study. Keys of ``overrides`` may
    be dotted (``budget.trials: 8``); mappings are merged, everything else replaces. A range replaced by a range is
    replaced whole, and so is a mapping of another ``type``. Raises ``SpecError`` for an unknown name or variant.
    """
    name, named = _canonical(name)
    document = merged({"name": name, "labels": {"preset": name}}, _composed(name))
    del document["about"]
    if (variant := variant or named) is None:
        return merged(document, overrides or {})
    variants = document.pop("variants", {})
    if variant not in variants:
        remedy = _hint(variant, list(variants)) if variants else "it is a study: leave the variant out"
        asked = "preset" if variant == named else "variant"
        raise SpecError.at(asked, f"the preset {name!r} has no variant {variant!r}", remedy)
    document = merged(document, {"name": f"{name}/{variant}", "labels": {"variant": variant}})
    return merged(merged(document, variants[variant]), overrides or {})


def merged(document: Document, overrides: Document) -> Document:
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


def _replaces(new: Document, old: Document) -> bool:
    """Whether settings of the old mapping mean nothing beside the new one: another range, another variant."""
    return "low" in new or new.get("type", old.get("type")) != old.get("type")


# ------------------------------------------------------------------------------------------------ files and extends


@cache
def _read() -> dict[str, dict[str, Document]]:
    """All entries: ``presets`` and ``parts`` by name."""
    found: dict[str, dict[str, Document]] = {"presets": {}, "parts": {}}
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            text = entry.read_text("utf-8")
            family = read_yaml(text)
            if "presets" not in family:  # one study, which its first comment describes
                comment = [
                    line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), text.splitlines())
                ]
                study = {"about": {"description": " ".join(comment)}} | family
                family = {"presets": {entry.name.removesuffix(".yaml"): study}}
            for kind, entries in family.items():
                found[kind] |= entries
    return found


@cache
def _composed(name: str) -> Document:
    """The entry with everything that it extends below it; not to be changed."""
    own = (_read()["presets"] | _read()["parts"])[name]
    parents = own.get("extends", [])
    document: Document = {"about": {"description": ""}}
    for layer in [*map(_composed, [parents] if isinstance(parents, str) else parents), own]:
        document = _laid_over(document, layer)
    return document


def _laid_over(below: Document, above: Document) -> Document:
    """Like ``merged``; a variant's overrides replace each other by key, descriptions add up, null drops a variant."""
    special = ("about", "variants", "extends")
    document = merged(
        {key: value for key, value in below.items() if key not in special},
        {key: value for key, value in above.items() if key not in special},
    )
    said = above.get("about", {})
    description = f"{said.get('description', '')} {below['about']['description']}".strip()
    document["about"] = {**below["about"], **said, "description": description}
    variants = dict(below.get("variants", {}))
    for name, overrides in above.get("variants", {}).items():
        variants[name] = None if overrides is None else {**variants.get(name, {}), **overrides}
    if variants:
        document["variants"] = {name: overrides for name, overrides in variants.items() if overrides is not None}
    return document


def _canonical(name: str) -> tuple[str, str | None]:
    """Name of the preset, and the variant where one is named."""
    base, _, variant = aliases().get(name, name).partition(":")
    base = aliases().get(base, base)
    if base not in _read()["presets"]:
        raise SpecError.at("preset", f"there is no preset {name!r}", _hint(name, [*names(), *aliases()]))
    return base, variant or None


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"one of {', '.join(known)}" if len(known) <= 20 else "`mudman presets` lists them; quickstart is the first"
