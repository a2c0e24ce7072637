"""What follows from the trials of a bundle, and from nothing else: made here for its writer and for its checker."""

from collections.abc import Mapping, Sequence
from typing import Any

from mudman.specs import StudySpec
from service.comparison_table import TableView
from service.evidence.gathered import Gathered
from service.export import ExportedComparison, statistics_of, table_of
from service.figures.bars import bars
from service.figures.of_study import Name, NotEnough, draw
from service.figures.style import Figure

SPEC, STATISTICS, BEST, TABLE = "spec.json", "statistics.json", "best.json", "table.json"


def of_study(found: Gathered, seed: int) -> dict[str, Any]:
    """Documents by the names of their files, figures apart."""
    best = found.best_trial()
    return {
        SPEC: StudySpec.model_validate(found.study.spec).model_dump(mode="json"),
        STATISTICS: statistics_of(found.study, found.trials, seed).model_dump(mode="json"),
        BEST: best and best.model_dump(mode="json"),
    }


def figures_of_study(found: Gathered) -> dict[str, Figure]:
    """By name; those are left out that need more trials."""
    drawn = {}
    for name in Name:
        try:
            drawn[str(name)] = draw(name, found.study, found)
        except NotEnough:
            continue
    return drawn


def table_of_comparison(
    comparison: ExportedComparison, studies: Sequence[Gathered], reference: str, seed: int
) -> TableView:
    return table_of(comparison, [(one.study, one.trials) for one in studies], reference, seed)


def figures_of_comparison(table: TableView, published: Mapping[str, str]) -> dict[str, Figure]:
    return {"bars": bars(table, published)} if any(row.result for row in table.rows) else {}
