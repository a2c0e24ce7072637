"""A comparison: one base document and named variants of it, each of which is a study of its own.

What a bar chart of the paper shows: the same model, texts and attack for several methods, beside the model that
nothing was unlearned from.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from mudman.faults import FieldFault, SpecError, printable
from mudman.presets import merged
from mudman.specs.reading import parse
from mudman.specs.study import StudySpec

BASELINE = "baseline"
"""Name of the variant without unlearning, which a comparison has unless its document says ``baseline: false``."""
MOST_VARIANTS = 200
_NAME = re.compile(r"[^./\x00-\x1f\ud800-\udfff]{1,100}")
_ONE_FOR_ALL = {"name", "owner"}


@dataclass(frozen=True)
class ComparisonSpec:
    """Studies to be compared, named ``<comparison>/<variant>``."""

    name: str
    owner: str
    labels: dict[str, str]
    document: dict[str, Any]
    """As it was given: base, ``variants`` and ``baseline``."""
    variants: dict[str, StudySpec]
    """In the document's order: the first is the reference of the others."""
    baseline: StudySpec | None
    """No unlearning, one trial; None where the document wants none."""

    @property
    def studies(self) -> dict[str, StudySpec]:
        """Every study of the comparison by variant; the baseline last."""
        return self.variants | ({BASELINE: self.baseline} if self.baseline else {})

    def placed(self, fault: FieldFault, variants: Iterable[str]) -> list[FieldFault]:
        """A fault that was found in the studies of these variants later, at its places in the document."""
        given = self.document["variants"]
        return [_under(fault, name, given[name]) if name in given else fault for name in variants]

    def identity(self) -> str:
        """SHA-256: equal for comparisons that mean the same studies, in whatever order."""
        body = {variant: spec.identity() for variant, spec in self.studies.items()}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PlacedFault(FieldFault):
    """A fault in a document with overrides: its pointer leads to where the user can mend it."""

    at: tuple[str, ...] = ()
    """Keys that lead there; they may be dotted themselves."""

    def pointer(self) -> str:
        return "".join("/" + printable(part).replace("~", "~0").replace("/", "~1") for part in self.at)


def is_comparison(document: Any) -> bool:
    return isinstance(document, dict) and "variants" in document


def parse_comparison(document: Any) -> ComparisonSpec:
    """Validate untrusted data: a study document with ``variants: {name: {dotted overrides}}`` and, optionally,
    ``baseline``.

    Overrides are laid over the base as ``mudman.presets.merged`` describes; ``{}`` is the base itself. Raises one
    ``SpecError`` with every fault: what is wrong in the base once, what only a variant gets wrong under
    ``variants.<name>.<path>``.
    """
    if not isinstance(document, dict):
        raise SpecError.at("", "must be a mapping of fields", "give a study with variants")
    base = {key: value for key, value in document.items() if key not in ("variants", BASELINE)}
    wants_baseline = document.get(BASELINE, True)
    variants, faults = _readable_variants(document.get("variants"), wants_baseline)
    documents = {name: _named(merged(base, overrides), name) for name, overrides in variants.items()}
    if wants_baseline:
        documents[BASELINE] = _named(_without_unlearning(base), BASELINE)

    own = {(fault.path, fault.message) for fault in _attempt(base)[1]}
    specs, of_base = {}, {}
    for name, variant in documents.items():
        specs[name], found = _attempt(variant)
        for fault in found:
            if (fault.path, fault.message) in own and name in variants:
                of_base.setdefault(fault.path, fault)
            elif name not in variants:
                only_here = variants and fault.path not in of_base  # every variant mends it
                remedy = f"{fault.remedy}, or set baseline: false" if only_here else fault.remedy
                of_base.setdefault(fault.path, replace(fault, remedy=remedy))
            else:
                faults.append(_under(fault, name, variants[name]))
    if of_base or faults:
        raise SpecError([*of_base.values(), *faults])
    first = next(iter(specs.values()))
    return ComparisonSpec(
        name=base["name"],
        owner=first.owner,
        labels=base.get("labels", {}),
        document=document,
        variants={name: specs[name] for name in variants},
        baseline=specs.get(BASELINE) if wants_baseline else None,
    )


def _readable_variants(given: Any, wants_baseline: Any) -> tuple[dict[str, dict], list[FieldFault]]:
    """Variants whose names and overrides have the right form, and what is wrong with the others."""
    faults = []
    if not isinstance(wants_baseline, bool):
        faults.append(FieldFault(BASELINE, "must be true or false", "true adds a study without unlearning"))
    if not isinstance(given, dict) or not 1 <= len(given) <= MOST_VARIANTS:
        message = f"must be a mapping of 1 to {MOST_VARIANTS} names to overrides"
        faults.append(FieldFault("variants", message, "give for example {mudman: {}, no_mask: {method.mask: none}}"))
        return {}, faults
    readable = {}
    for name, overrides in given.items():
        at = ("variants", str(name))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            remedy = "take 1 to 100 characters without dots and slashes"
            faults.append(PlacedFault(f"variants.{printable(name)}", "is no name of a variant", remedy, at))
        elif name == BASELINE and wants_baseline:
            remedy = "rename it, or set baseline: false"
            faults.append(PlacedFault(f"variants.{name}", "is the name of the study without unlearning", remedy, at))
        elif not isinstance(overrides, dict) or not all(isinstance(path, str) for path in overrides):
            message, remedy = "must be a mapping of overrides", "give {} for the base as it is"
            faults.append(PlacedFault(f"variants.{name}", message, remedy, at))
        else:
            readable[name] = overrides
            for path in sorted(overrides.keys() & _ONE_FOR_ALL):
                message, remedy = "is the same for all variants", "set it in the base"
                faults.append(PlacedFault(f"variants.{name}.{path}", message, remedy, (*at, path)))
    return readable, faults


def _named(document: dict[str, Any], variant: str) -> dict[str, Any]:
    name = document.get("name")
    return document | {"name": f"{name}/{variant}"} if isinstance(name, str) and name else document


def _without_unlearning(base: dict[str, Any]) -> dict[str, Any]:
    """The same attack on the untouched model, once; nothing can be over a bound there."""
    bare = {key: value for key, value in base.items() if key not in ("constraint", "checkpoints")}
    return merged(bare | {"method": {"type": "none"}}, {"budget.trials": 1})


def _attempt(document: dict[str, Any]) -> tuple[StudySpec | None, list[FieldFault]]:
    try:
        return parse(document), []
    except SpecError as error:
        return None, error.faults


def _under(fault: FieldFault, variant: str, overrides: dict[str, Any]) -> PlacedFault:
    at = ("variants", variant, *location(fault.path, overrides))
    return PlacedFault(f"variants.{variant}.{fault.path}".rstrip("."), fault.message, fault.remedy, at)


def location(path: str, overrides: Any) -> list[str]:
    """Keys that lead to ``path``, as far as the overrides mention it. Their keys may be dotted."""
    if isinstance(overrides, dict):
        for key, value in overrides.items():
            if path == key or key.startswith(f"{path}."):
                return [key]
            if path.startswith(f"{key}."):
                return [key, *location(path[len(key) + 1 :], value)]
    return []
