"""``/presets``: packaged specs of published experiments."""

from functools import cache
from typing import Any, Literal

from fastapi import APIRouter

from mudman import presets
from mudman.faults import SpecError
from mudman.specs import parse
from mudman.specs.comparison import is_comparison
from service import examples
from service.cost import Cost, cost_of
from service.declared_problems import problems
from service.refusals import UnknownPreset
from service.view import View

router = APIRouter(prefix="/presets", tags=["presets"])


class PresetSummary(View):
    name: str
    kind: Literal["study", "comparison"]
    """Where it is posted: ``/studies`` or ``/comparisons``. ``name:variant`` is one variant as a study."""
    description: str
    """What it is, and where paper and published code differ."""
    source: str | None
    aliases: list[str]
    """Other names that are understood; an alias may stand for one variant."""
    variants: list[str]
    model: str
    cost: Cost
    """Of a study; of a comparison's base, for each variant."""


class PresetList(View):
    items: list[PresetSummary]


class PresetView(PresetSummary):
    code_commit: str | None
    """Commit of the published code that the settings come from."""
    expected: dict[str, str]
    """Published result by variant."""
    spec: dict[str, Any]
    """The document as packaged; ``POST /studies`` or ``POST /comparisons`` takes it as it stands."""


@cache
def _summary(name: str) -> dict[str, Any]:
    said = presets.about(name)
    base = {key: value for key, value in presets.load(name).items() if key != "variants"}
    spec = parse(base)
    return {**vars(said), "model": spec.model.id, "cost": cost_of(spec)}


@router.get(
    "",
    response_model=PresetList,
    summary="List presets",
    responses={200: {"content": {"application/json": {"example": examples.PRESET_LIST}}}, **problems()},
)
def list_presets():
    """By name, with what each costs."""
    return {"items": [_summary(name) for name in presets.names()]}


@router.get(
    "/{name}",
    response_model=PresetView,
    summary="One preset",
    responses={200: {"content": {"application/json": {"example": examples.PRESET}}}, **problems(404, 422)},
)
def show(name: str):
    """The whole spec; by name, alias, or `name:variant`."""
    try:
        document = presets.load(name)
    except SpecError as error:
        raise UnknownPreset(str(error)) from None
    summary = _summary(presets.about(name).name)
    if summary["kind"] == "comparison" and not is_comparison(document):  # one variant of it
        summary = summary | {"kind": "study", "variants": [], "cost": cost_of(parse(document))}
    return {**summary, "spec": document}
