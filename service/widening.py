"""The spec of a study like another one, with wider search ranges."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mudman.faults import SpecError
from mudman.specs import Range, StudySpec, parse
from service.statistics.saturation import Side, widened

PARENT = "widened_from"
"""Label of the new study with the id of the one that it comes from."""


def room(spec: StudySpec, name: str, side: Side) -> Range | None:
    """The range made longer on that side, or as far as the setting allows: rates end at 0, shares at 0 and 1. None
    where it cannot be longer."""
    searched = spec.search_space()[name]
    document = spec.model_dump(mode="json")
    for candidate in _candidates(searched, side):
        try:
            parse(with_ranges(document, {name: candidate}))
        except SpecError:
            continue
        return candidate
    return None


def _candidates(searched: Range, side: Side) -> list[Range]:
    """The longer range, and those that reach to the bounds that settings have."""
    try:
        longer = [widened(searched, side)]
    except ValueError:
        longer = []
    if side == "low":
        bounds = [bound for bound in (1.0, 0.0) if bound < searched.low and not (searched.log and bound == 0)]
    else:
        bounds = [bound for bound in (1.0,) if bound > searched.high]
    return longer + [searched.model_copy(update={side: bound}) for bound in bounds]


def with_ranges(document: Mapping[str, Any], ranges: Mapping[str, Range]) -> dict[str, Any]:
    """The spec's document with these ranges, by dotted path below ``method``."""
    made = deepcopy(dict(document))
    for name, searched in ranges.items():
        *parents, last = name.split(".")
        place: Any = made["method"]
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = searched.model_dump(mode="json")
    return made
