"""``/methods``, ``/losses``, ``/attacks``, ``/evaluations``, ``/models``, ``/corpora``: what a spec can name."""

import dataclasses
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from mudman import catalogue
from service.declared_problems import problems
from service.view import View

router = APIRouter(tags=["catalogue"])


class EntryView(View):
    name: str
    definition: str
    source: str
    """Paper, section or figure."""
    found: str | None
    """What the paper says that it does."""
    passes: str | None
    """Passes that it books."""
    memory: str | None
    """Beside the model; P is the memory of the intervened weights."""
    json_schema: dict[str, Any] | None
    """Of its section of a spec."""


class EntryList(View):
    items: list[EntryView]


class SourceView(View):
    name: str
    summary: str
    licence: str | None
    """Null where none is stated."""
    source: str
    offline: bool
    """Comes with the project; otherwise it is read from the hub."""


class SourceList(View):
    items: list[SourceView]


def _entries(kind: str) -> dict[str, Any]:
    fields = EntryView.model_fields
    return {"items": [{name: getattr(entry, name) for name in fields} for entry in catalogue.entries()[kind].values()]}


def _sources(found: list[catalogue.Source]) -> dict[str, Any]:
    return {"items": [dataclasses.asdict(source) for source in found]}


def _offer(path: str, summary: str, answer: Callable[[], dict[str, Any]], view: type[View]) -> None:
    """A route without parameters; its example is the first item of its answer, a schema cut short."""
    item = answer()["items"][0]
    if "json_schema" in item:
        item["json_schema"] = {"title": item["json_schema"]["title"], "type": "object"}
    example = {"items": [item]}
    responses = {200: {"content": {"application/json": {"example": example}}}, **problems()}
    router.add_api_route(
        path, answer, response_model=view, summary=summary, responses=responses, operation_id=f"list_{path[1:]}"
    )


def _methods() -> dict[str, Any]:
    """What `method.type` can be."""
    return _entries("methods")


def _losses() -> dict[str, Any]:
    """What `method.loss` can be."""
    return _entries("losses")


def _attacks() -> dict[str, Any]:
    """What `attack.type` can be."""
    return _entries("attacks")


def _evaluations() -> dict[str, Any]:
    """What `evaluations` can hold."""
    return _entries("evaluations")


def _models() -> dict[str, Any]:
    """What `model.id` can be, beside any hub id and folders under the data root."""
    return _sources(catalogue.models())


def _corpora() -> dict[str, Any]:
    """What `forget.corpus` and `retain.corpus` can be, beside any hub id and folders under the data root."""
    return _sources(catalogue.corpora())


_offer("/methods", "Unlearning methods", _methods, EntryList)
_offer("/losses", "Unlearning losses", _losses, EntryList)
_offer("/attacks", "Attacks", _attacks, EntryList)
_offer("/evaluations", "Evaluations", _evaluations, EntryList)
_offer("/models", "Packaged models", _models, SourceList)
_offer("/corpora", "Named corpora", _corpora, SourceList)
