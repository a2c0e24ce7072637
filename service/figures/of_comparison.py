"""Which figures a comparison has, and what each is drawn from, wherever that is kept: in the store or in a bundle."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mudman.specs import StudySpec
from service.comparison_table import TableView
from service.figures.bars import bars
from service.figures.dynamics import Traced, dynamics
from service.figures.names import OfComparison as Name
from service.figures.of_study import MOST_CURVES, NotEnough, Source, Subject
from service.figures.overlaid import overlaid
from service.figures.style import Figure
from service.figures.times import times
from service.statistics.compute import Tally

MOST_TRACES = 6
"""Variants beside each other in one figure."""


class Variant(NamedTuple):
    label: str
    study: Subject
    source: Source
    tally: Callable[[], Tally]
    """What was spent."""


class Compared(NamedTuple):
    """A comparison, as far as its figures need it."""

    name: str
    variants: Sequence[Variant]
    """In the comparison's order, the baseline last."""
    table: Callable[[], TableView]
    published: Mapping[str, str]


def draw(name: Name, compared: Compared) -> Figure:
    """Raises ``NotEnough``."""
    return _DRAWN[name](compared)


def _bars(compared: Compared) -> Figure:
    table = compared.table()
    if not any(row.result for row in table.rows):
        raise NotEnough(f"No variant of comparison {table.comparison} has a valid trial yet: {table.rows[0].reason}.")
    return bars(table, compared.published)


def _curves(compared: Compared) -> Figure:
    last = {}
    for one in compared.variants:
        many = min(StudySpec.model_validate(one.study.spec).statistics.last, MOST_CURVES)
        if found := one.source.last_curves(many):
            last[one.label] = list(found.values())
    if not last:
        raise NotEnough(f"This figure needs a valid trial. No variant of {compared.name} has one yet.")
    return overlaid(compared.name, last)


def _dynamics(compared: Compared) -> Figure:
    traced = []
    for one in compared.variants:
        if (found := one.source.trace()) is not None:
            traced.append(Traced(one.label, *found))
        if len(traced) == MOST_TRACES:
            break
    if not traced:
        raise NotEnough(
            f"This figure needs a valid trial with a trace. No variant of {compared.name} has one: traces are kept "
            "where the spec says record.trace: true."
        )
    return dynamics(compared.name, traced)


def _times(compared: Compared) -> Figure:
    entries = [(one.label, StudySpec.model_validate(one.study.spec), one.tally()) for one in compared.variants]
    if not any(sum(tally.outcomes.values()) for _, _, tally in entries):
        raise NotEnough(f"This figure needs a finished trial. No variant of {compared.name} has one yet.")
    return times(compared.name, entries)


_DRAWN = {Name.bars: _bars, Name.curves: _curves, Name.dynamics: _dynamics, Name.times: _times}
