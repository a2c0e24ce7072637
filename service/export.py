"""A study or a comparison as a document that needs no server: every finished attempt, and the statistics, which can be
computed again from it alone."""

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from mudman.faults import MudmanError
from mudman.specs import minimised
from service import repeated
from service.agreement import differing
from service.comparison_table import TableView, table
from service.confirmation_views import confirmation_view
from service.published import PublishedView
from service.statistics.compute import Attempt, best_first, by_outcome, tally
from service.statistics.means import TOP
from service.store.exports import Finished
from service.store.tables import Comparison, Study
from service.study_statistics import StatisticsView, study_statistics
from service.view import View
from service.views import without_bulk

VERSION = 1
FOREIGN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What computing raises over a document that others wrote: its parts may be anything."""


class ExportedStudy(View):
    """What a study is and where it stands."""

    id: str
    name: str
    variant: str | None
    owner: str
    preset: str | None
    state: str
    spec: dict[str, Any]
    """As it was given, without defaults."""
    spec_version: int
    spec_hash: str
    problem: dict[str, Any] | None
    preparation: dict[str, Any] | None
    """Pinned revisions, hashes of the texts, and the baseline."""
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None


class ExportedTrial(View):
    """A finished attempt, whatever became of it."""

    ordinal: int
    attempt: int
    outcome: str
    value: float | None
    """Objective, of a valid trial."""
    seconds: float
    """As the trial says, or where it says nothing, from start to end."""
    passes_booked: int
    passes_made: int
    passes_skipped: int
    hyperparameters: dict[str, float]
    violation: float | None
    overrun: float | None
    stopped_at_pass: int | None
    judged: float | None
    """Of a pruned trial: the objective at the check that ended it."""
    reason: str | None
    started_at: datetime.datetime
    finished_at: datetime.datetime | None


class ExportedRepeat(View):
    """The study that ran the best ones again, and its finished attempts."""

    study: ExportedStudy
    trials: list[ExportedTrial]


class StudyExport(View):
    """One study."""

    format: Literal["mudman-study"] = "mudman-study"
    version: int = VERSION
    study: ExportedStudy
    statistics: StatisticsView
    """Made from what stands here, and nothing else (docs/statistics.md)."""
    trials: list[ExportedTrial]
    """By ordinal and attempt."""
    confirmation: ExportedRepeat | None = None
    """The latest one, where there is any."""


class ExportedComparison(View):
    id: str
    name: str
    owner: str
    preset: str | None
    document: dict[str, Any]
    created_at: datetime.datetime


class ComparisonExport(View):
    """A comparison with all its studies."""

    format: Literal["mudman-comparison"] = "mudman-comparison"
    version: int = VERSION
    comparison: ExportedComparison
    table: TableView
    """Made from what stands here, and nothing else; published results apart."""
    studies: list[StudyExport]
    """In the order of the variants, the baseline last."""


REMEDY = "Remedy: write one with `mudman export ID FILE`"


class NoExport(MudmanError):
    """The document is no export that can be read here."""


def study_export(
    study: Study,
    attempts: Sequence[Finished],
    confirming: Study | None = None,
    runs: Sequence[Finished] = (),
    *,
    seed: int = 0,
) -> StudyExport:
    """``confirming``: the study's latest confirmation, with its finished attempts, ``runs``."""
    about, trials = _exported(study, attempts)
    again = None
    if confirming is not None:
        of, ran = _exported(confirming, runs)
        again = ExportedRepeat(study=of, trials=ran)
    return StudyExport(
        study=about, statistics=statistics_of(about, trials, again, seed), trials=trials, confirmation=again
    )


def _exported(study: Study, attempts: Sequence[Finished]) -> tuple[ExportedStudy, list[ExportedTrial]]:
    plain = {name: getattr(study, name) for name in ExportedStudy.model_fields}
    about = ExportedStudy(**plain | {"preparation": _slim(study.preparation)})
    return about, [ExportedTrial.model_construct(**one._asdict()) for one in attempts]


def comparison_export(
    comparison: Comparison,
    studies: Sequence[StudyExport],
    reference: str,
    *,
    seed: int = 0,
    published: Mapping[str, PublishedView],
) -> ComparisonExport:
    about = ExportedComparison(**{name: getattr(comparison, name) for name in ExportedComparison.model_fields})
    made = table_of(about, _parts(studies), reference, seed, published)
    return ComparisonExport(comparison=about, table=made, studies=list(studies))


def as_csv(export: StudyExport) -> str:
    """The attempts, unrounded, a column for each hyper-parameter; an empty field where there is no number."""
    searched = sorted({name for trial in export.trials for name in trial.hyperparameters})
    own = [name for name in ExportedTrial.model_fields if name != "hyperparameters"]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*own, *(f"hyperparameters.{name}" for name in searched)])
    for trial in export.trials:
        values = [getattr(trial, name) for name in own]
        values = [value.isoformat() if isinstance(value, datetime.datetime) else value for value in values]
        writer.writerow([*values, *(trial.hyperparameters.get(name) for name in searched)])
    return file.getvalue()


def verify(document: Mapping[str, Any]) -> list[str]:
    """Compute the statistics of an export again, from its trials alone; what does not agree, by path, with both values.

    Raises ``NoExport``.
    """
    kinds = {"mudman-study": StudyExport, "mudman-comparison": ComparisonExport}
    named = document.get("format") if isinstance(document, Mapping) else None
    kind = kinds.get(named) if isinstance(named, str) else None
    if kind is None or document.get("version") != VERSION:
        raise NoExport(f"this is no export that is read here. {REMEDY}")
    try:
        return list(_disagreements(kind.model_validate(document)))
    except FOREIGN as error:
        raise NoExport(f"the export is damaged: {type(error).__name__}: {error}") from error


def _disagreements(export: StudyExport | ComparisonExport) -> Iterator[str]:
    if isinstance(export, StudyExport):
        seed = export.statistics.bootstrap.seed
        again = statistics_of(export.study, export.trials, export.confirmation, seed)
        yield from differing(export.statistics.model_dump(), again.model_dump(), "statistics")
        if confirming := export.confirmation:
            for line in repeated.disagreements(export.study.id, export.trials, confirming.study):
                yield f"confirmation.study.spec.{line}"
        return
    found = export.table
    rows = [*found.rows, *filter(None, [found.baseline])]
    published = {row.variant: row.published for row in rows if row.published}  # does not follow from trials
    made = table_of(export.comparison, _parts(export.studies), found.reference, found.bootstrap.seed, published)
    yield from differing(found.model_dump(), made.model_dump(), "table")
    for number, study in enumerate(export.studies):
        yield from (f"studies.{number}.{line}" for line in _disagreements(study))


def statistics_of(
    study: ExportedStudy, trials: Iterable[ExportedTrial], again: ExportedRepeat | None, seed: int
) -> StatisticsView:
    attempts = attempts_of(trials)
    top = best_first(attempts, TOP, minimise=minimised(study.spec))
    confirmation = again and confirmation_view(study, again.study, attempts_of(again.trials))
    return study_statistics(study, by_outcome(attempts), top, confirmation=confirmation, seed=seed)


def table_of(
    comparison: ExportedComparison,
    studies: Sequence[tuple[ExportedStudy, Sequence[ExportedTrial]]],
    reference: str,
    seed: int,
    published: Mapping[str, PublishedView],
) -> TableView:
    tallies = {study.id: tally(attempts_of(trials)) for study, trials in studies}
    rows = [study for study, _ in studies]
    return table(comparison.id, comparison.name, rows, tallies, reference, seed=seed, published=published)


def _parts(studies: Sequence[StudyExport]) -> list[tuple[ExportedStudy, list[ExportedTrial]]]:
    return [(one.study, one.trials) for one in studies]


def attempts_of(trials: Iterable[ExportedTrial]) -> list[Attempt]:
    """As statistics take them, with their hyper-parameters."""
    return [Attempt(**{name: getattr(trial, name) for name in _OF_ATTEMPT}) for trial in trials]


_OF_ATTEMPT = tuple(Attempt.__dataclass_fields__)


def _slim(preparation: dict[str, Any] | None) -> dict[str, Any] | None:
    if preparation is None:
        return None
    baseline = preparation.get("baseline")
    slim = {"baseline": baseline and without_bulk(baseline)}
    if "baselines" in preparation:
        slim["baselines"] = [without_bulk(one) for one in preparation["baselines"]]
    return preparation | slim
