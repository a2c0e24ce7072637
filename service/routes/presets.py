"""``/presets``: packaged specs of published experiments."""

from typing import Any

from fastapi import APIRouter

from mudman import presets
from mudman.specs import parse
from service import examples
from service.cost import Cost, cost_of
from service.problems import UnknownPreset, problems
from service.views import View

router = APIRouter(prefix="/presets", tags=["presets"])


class PresetSummary(View):
    name: str
    model: str
    cost: Cost


class PresetList(View):
    items: list[PresetSummary]


class PresetView(PresetSummary):
    spec: dict[str, Any]
    """The document as packaged; ``POST /studies`` takes it as it stands."""


def _summary(name: str) -> dict[str, Any]:
    spec = parse(presets.load(name))
    return {"name": name, "model": spec.model.id, "cost": cost_of(spec)}


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
    """The whole spec."""
    if name not in presets.names():
        raise UnknownPreset(f"There is no preset {name!r}. There are: {', '.join(presets.names())}.")
    return {**_summary(name), "spec": presets.load(name)}
