"""What follows from the trials of a bundle, and from nothing else: made here for its writer and for its checker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mudman.specs import StudySpec
from service.comparison_table import TableView
from service.evidence.gathered import Gathered
from service.export import ExportedComparison, ExportedRepeat, statistics_of, table_of
from service.figures import of_comparison, of_study
from service.figures.of_study import NotEnough
from service.figures.style import Figure
from service.published import by_variant
from service.statistics.compute import Tally, tally

SPEC, STATISTICS, BEST, TABLE = "spec.json", "statistics.json", "best.json", "table.json"


def numbers_of_study(found: Gathered, seed: int) -> dict[str, Any]:
    """Documents by the names of their files, figures apart."""
    best, again = found.best_trial(), found.confirmation
    confirmation = again and ExportedRepeat(study=again.study, trials=again.trials)
    return {
        SPEC: StudySpec.model_validate(found.study.spec).model_dump(mode="json"),
        STATISTICS: statistics_of(found.study, found.trials, confirmation, seed).model_dump(mode="json"),
        BEST: best and best.model_dump(mode="json"),
    }


def figures_of_study(found: Gathered) -> dict[str, Figure]:
    """By name; those are left out that need more trials."""
    return _drawn(of_study.Name, lambda name: of_study.draw(name, found.study, found))


def table_of_comparison(
    comparison: ExportedComparison,
    studies: Sequence[Gathered],
    reference: str,
    seed: int,
    published: Mapping[str, str],
) -> TableView:
    parts = [(one.study, one.trials) for one in studies]
    return table_of(comparison, parts, reference, seed, by_variant(published))


def figures_of_comparison(
    table: TableView, studies: Sequence[Gathered], published: Mapping[str, str]
) -> dict[str, Figure]:
    """By name; those are left out that need more trials."""
    variants = [
        of_comparison.Variant(one.study.variant or one.study.name, one.study, one, partial(_spent, one))
        for one in studies
    ]
    compared = of_comparison.Compared(table.name, variants, lambda: table, published)
    return _drawn(of_comparison.Name, lambda name: of_comparison.draw(name, compared))


def _spent(found: Gathered) -> Tally:
    return tally(found.attempts())


def _drawn(names: Iterable[str], draw: Callable[[Any], Figure]) -> dict[str, Figure]:
    drawn = {}
    for name in names:
        try:
            drawn[str(name)] = draw(name)
        except NotEnough:
            continue
    return drawn
