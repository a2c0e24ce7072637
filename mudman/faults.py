"""What can be wrong with a request, said so that a person can act on it: a path, what is wrong, and the remedy."""

import difflib
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError


@dataclass(frozen=True)
class FieldFault:
    """One wrong field. ``path`` is dotted (``method.unlearning_rate.low``); empty for the document as a whole."""

    path: str
    message: str
    remedy: str

    def pointer(self) -> str:
        """JSON pointer (RFC 6901) to the field."""
        return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in self.path.split(".") if part)

    def __str__(self) -> str:
        return f"{self.path or 'the document'}: {self.message}. Remedy: {self.remedy}."


class MudmanError(Exception):
    """Anything that a user can mend; the message says how."""


class SpecError(MudmanError):
    """A spec with at least one wrong field; ``faults`` holds all of them."""

    def __init__(self, faults: list[FieldFault]):
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults

    @classmethod
    def at(cls, path: str, message: str, remedy: str) -> "SpecError":
        """The error of one field."""
        return cls([FieldFault(path, message, remedy)])

    def __reduce__(self):
        return SpecError, (self.faults,)


def checked(*checks: Callable[[], Any]) -> list[Any]:
    """What the checks answer, in order. All of them run: one ``SpecError`` holds the faults of all that fail."""
    answers, faults = [], []
    for check in checks:
        try:
            answers.append(check())
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)
    return answers


def field_faults(error: ValidationError, data: Any, kind: Any, prefix: str = "") -> list[FieldFault]:
    """Pydantic's errors as faults, with paths that exist in the user's document (union tags taken out)."""
    faults = []
    for detail in error.errors(include_url=False):
        if detail["type"] == _BETWEEN:
            above = [*([prefix] if prefix else []), *map(str, _document_path(detail["loc"], data, detail["type"]))]
            faults += [
                FieldFault(".".join([*above, *filter(None, [fault.path])]), fault.message, fault.remedy)
                for fault in detail["ctx"]["faults"]
            ]
            continue
        parts = [*_document_path(detail["loc"], data, detail["type"]), *detail.get("ctx", {}).get("below", ())]
        if detail["type"].startswith("union_tag") and not _is_shorthand(data, parts):
            parts.append(detail["ctx"]["discriminator"].strip("'"))
        path = ".".join([*([prefix] if prefix else []), *(printable(part) for part in parts)])
        faults.append(FieldFault(path, _message(detail), _remedy(detail, kind)))
    return faults


_BETWEEN = "between_fields"


def between_fields(faults: list[FieldFault]) -> PydanticCustomError:
    """What a validator of a whole model raises for rules between its fields; paths are below that model."""
    return PydanticCustomError(_BETWEEN, "; ".join(f"{f.path}: {f.message}" for f in faults), {"faults": faults})


def _is_shorthand(data: Any, path: list[int | str]) -> bool:
    """Whether the document has a plain name there, in place of a mapping with a type."""
    for part in path:
        data = data[part]
    return isinstance(data, str)


def _document_path(location: tuple, data: Any, error: str) -> list[int | str]:
    path: list[int | str] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]
        elif not (last and error == "missing"):
            continue  # the tag of a union member: it stands in no document
        path.append(part)
    return path


def printable(part: int | str) -> str:
    """Half of a surrogate pair is valid in JSON's escapes, and in no output."""
    return str(part).encode("utf-8", "backslashreplace").decode()


def _message(detail: dict) -> str:
    match detail["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping of fields"
        case "union_tag_invalid":
            return f"{_given(detail['ctx']['tag'])} is not known"
        case "union_tag_not_found":
            return "field required"
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            return message[:1].lower() + message[1:].rstrip(".")


def _remedy(detail: dict, kind: Any) -> str:
    context, given = detail.get("ctx", {}), detail.get("input")
    match detail["type"]:
        case "missing" | "union_tag_not_found":
            return "add this field"
        case "extra_forbidden":
            given = printable(detail["loc"][-1])  # itself may be a field of another type that could stand here
            close = difflib.get_close_matches(given, _field_names(kind) - {given}, n=1)
            return f"did you mean {close[0]!r}? Otherwise remove it" if close else "remove it: it is not known here"
        case "union_tag_invalid":
            return f"one of {context['expected_tags']}"
        case "literal_error":
            return f"one of {context['expected']}"
        case "float_type":
            return "give a number, or a range such as {low: 1.0e-4, high: 1.0e-2, log: true}, where it may be searched"
        case "int_type":
            return f"give a whole number in place of {_given(given)}"
        case "tuple_type":
            return f"give a list: [{given}]" if isinstance(given, str) and len(given) < 60 else "give a list"
        case "string_type":
            return f"give text in place of {_given(given)}, in quotes where it reads as a number"
        case "string_too_short" | "too_short":
            return f"give at least {context['min_length']}"
        case "string_too_long" | "too_long":
            return f"shorten it to {context['max_length']}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            word, bound = next((_BOUNDS[name], value) for name, value in context.items() if name in _BOUNDS)
            return f"give {word} {bound if isinstance(bound, int) else format(bound, 'g')}, in place of {_given(given)}"
        case "finite_number":
            return "give a finite number"
        case "out_of_bounds":
            return f"give a number {context['bound']}, in place of {context['end']:g}"
        case _:
            return f"change {_given(given)} accordingly"


_BOUNDS = {"gt": "a number above", "ge": "a number of at least", "lt": "a number below", "le": "a number of at most"}


def _given(value: Any) -> str:
    """What was given, cut short however large it is: aliases let a small document stand for gigabytes."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge number"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 60, 60, 60


def _field_names(kind: Any, seen: frozenset = frozenset()) -> set[str]:
    """Every field name below a model: candidates for a misspelt one."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind in seen:
            return set()
        names = set(kind.model_fields)
        for field in kind.model_fields.values():
            names |= _field_names(field.annotation, seen | {kind})
        return names
    return {name for part in get_args(kind) for name in _field_names(part, seen)}
