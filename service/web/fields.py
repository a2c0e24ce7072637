"""The main settings of a spec as fields beside its text: read from the text, and put back into it.

The text is the spec; fields are another way to write parts of it. What a field does not show stays as it was written,
comments and order included.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ruamel.yaml import YAML

from mudman import catalogue
from mudman.documents import read_yaml
from mudman.faults import SpecError

Kind = Literal["text", "number", "list", "flag"]


@dataclass(frozen=True)
class Field:
    path: str
    """Dotted, in the document."""
    label: str
    kind: Kind = "text"
    known: tuple[str, ...] = ()
    """What may be typed, where that is worth a list."""
    value: str = ""
    """As it stands in the text; of a flag ``true`` or ``false``."""


@dataclass(frozen=True)
class Section:
    title: str
    fields: tuple[Field, ...]


def sections(text: str) -> list[Section]:
    """The fields that this text has a value for, or may have one. None of a text that is no mapping."""
    try:
        document = read_yaml(text)
    except SpecError:
        return []
    if not isinstance(document, dict):
        return []
    plain = [Section(title, tuple(_filled(document, fields))) for title, fields in _plain()]
    ranges = [Section(name.replace("_", " "), tuple(_range(name, found))) for name, found in _ranges(document)]
    return [section for section in [*plain, *ranges] if section.fields]


def _plain() -> list[tuple[str, list[Field]]]:
    models = tuple(one.name for one in catalogue.models())
    corpora = tuple(one.name for one in catalogue.corpora())
    losses = tuple(catalogue.entries()["losses"])
    return [
        (
            "What",
            [
                Field("name", "Name"),
                Field("model.id", "Model", known=models),
                Field("forget.corpus", "Forget", known=corpora),
                Field("retain.corpus", "Retain", known=corpora),
                Field("method.target_modules", "Modules, by comma", "list"),
                Field("method.loss", "Loss", known=losses),
            ],
        ),
        (
            "How much",
            [
                Field("budget.trials", "Trials", "number"),
                Field("budget.unlearn_passes", "Passes of unlearning", "number"),
                Field("attack.passes", "Passes of the attack", "number"),
                Field("attack.rate", "Rate of the attack", "number"),
                Field("constraint.retain_loss_increase", "Most that the retain loss may rise", "number"),
                Field("resources.gpus", "GPUs of a trial", "number"),
                Field("resources.max_concurrent", "Trials at once", "number"),
            ],
        ),
    ]


def _filled(document: dict[str, Any], fields: list[Field]) -> list[Field]:
    """Without those whose value is written in a form that a field cannot show."""
    shown = ((field, _at(document, field.path)) for field in fields)
    return [replace(field, value=said) for field, value in shown if (said := _said(value, field.kind)) is not None]


def _ranges(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    method = document.get("method")
    found = method.items() if isinstance(method, dict) else ()
    return [(name, value) for name, value in found if isinstance(value, dict) and {"low", "high"} <= value.keys()]


def _range(name: str, found: dict[str, Any]) -> list[Field]:
    ends = [Field(f"method.{name}.{end}", end, "number", value=_said(found[end], "number") or "") for end in _ENDS]
    return [*ends, Field(f"method.{name}.log", "log", "flag", value="true" if found.get("log") is True else "false")]


_ENDS = ("low", "high")


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        if document is None:
            return None
        if not isinstance(document, dict):
            return document
        document = document.get(part)
    return document


def _said(value: Any, kind: Kind) -> str | None:
    match value:
        case None:
            return ""
        case list() if kind == "list" and all(isinstance(one, str) for one in value):
            return ", ".join(value)
        case bool() | list() | dict():
            return None
    return str(value)


def changed(text: str, given: Mapping[str, str], before: Mapping[str, str]) -> str:
    """The text with the values of fields that are not as ``before``. An empty one is taken out. Raises ``SpecError``
    for a text that cannot be read."""
    kinds = {field.path: field.kind for section in sections(text) for field in section.fields}
    new = {path: value for path, value in given.items() if path in kinds and value != before.get(path)}
    read_yaml(text)  # refuses what the editor below would take
    if not new:
        return text
    editor = YAML()
    editor.width, editor.preserve_quotes = 100, True
    editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load(text)
    for path, value in new.items():
        _put(document, path.split("."), _read(value, kinds[path]))
    written = io.StringIO()
    editor.dump(document, written)
    return written.getvalue()


def _put(place: Any, path: list[str], value: Any) -> None:
    first, *rest = path
    if rest:
        if not isinstance(place.get(first), dict):
            place[first] = {}
        _put(place[first], rest, value)
        if not place[first]:
            del place[first]
    elif value is None:
        place.pop(first, None)
    elif isinstance(value, list) and isinstance(place.get(first), list):
        place[first][:] = value  # written as it was
    else:
        place[first] = value


def _read(value: str, kind: Kind) -> Any:
    value = value.strip()
    if kind == "flag":
        return value == "true"
    if not value:
        return None
    if kind == "list":
        return [one.strip() for one in value.split(",") if one.strip()]
    if kind == "number":
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                continue
    return value  # text; or no number, and the spec's check says so
