"""Pages of studies, comparisons and trials. A cursor names the last row seen (a keyset), so that pages neither skip nor
repeat rows when others are added, and the last page costs what the first does."""

import base64
import binascii
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session, defer

from mudman.faults import MudmanError
from mudman.results import Outcome
from service.store import standing
from service.store.comparisons import is_comparison_id
from service.store.states import State
from service.store.studies import is_study_id
from service.store.tables import Comparison, Study, Trial


class InvalidCursor(MudmanError):
    """A cursor that no page handed out."""

    def __init__(self):
        super().__init__("The cursor is not one that this list handed out. Take `next` of the page before, unchanged.")

    def __reduce__(self):
        return InvalidCursor, ()


@dataclass(frozen=True)
class StudyFilter:
    states: tuple[State, ...] = ()
    """Any of these; empty: any state."""
    preset: str | None = None
    owner: str | None = None
    model: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    """All of these."""
    text: str | None = None
    """Part of the name, whatever its case."""


@dataclass(frozen=True)
class StudyRow:
    study: Study
    """Without its preparation."""
    trials: int
    """That count toward the budget."""
    running: int
    best_value: float | None


def studies(
    session: Session, wanted: StudyFilter, limit: int, cursor: str | None = None
) -> tuple[list[StudyRow], str | None]:
    """Newest first, with the cursor of the next page. Raises ``InvalidCursor``."""
    query = select(Study).options(defer(Study.preparation, raiseload=True), defer(Study.problem, raiseload=True))
    if wanted.states:
        query = query.where(Study.state.in_(wanted.states))
    for column, value in ((Study.preset, wanted.preset), (Study.owner, wanted.owner)):
        if value is not None:
            query = query.where(column == value)
    if wanted.model is not None:
        query = query.where(Study.spec["model"]["id"].astext == wanted.model)
    if wanted.labels:
        query = query.where(Study.spec.contains({"labels": wanted.labels}))
    if wanted.text:
        query = query.where(Study.name.icontains(wanted.text, autoescape=True))
    page, following = _newest_first(session, query, Study, is_study_id, limit, cursor)
    return with_counts(session, page), following


@dataclass(frozen=True)
class ComparisonRow:
    comparison: Comparison
    """Without its document."""
    states: list[str]
    """Of its studies."""
    trials: int
    """Of all its studies, that count toward their budgets."""
    budget: int


def comparisons(
    session: Session, wanted: StudyFilter, limit: int, cursor: str | None = None
) -> tuple[list[ComparisonRow], str | None]:
    """As ``studies``; of the filter, owner, preset, labels and text hold."""
    query = select(Comparison).options(defer(Comparison.document, raiseload=True))
    for column, value in ((Comparison.preset, wanted.preset), (Comparison.owner, wanted.owner)):
        if value is not None:
            query = query.where(column == value)
    if wanted.labels:
        query = query.where(Comparison.labels.contains(wanted.labels))
    if wanted.text:
        query = query.where(Comparison.name.icontains(wanted.text, autoescape=True))
    page, following = _newest_first(session, query, Comparison, is_comparison_id, limit, cursor)
    of_page = Study.comparison_id.in_([comparison.id for comparison in page])
    budgets = func.sum(Study.spec["budget"]["trials"].as_integer())
    head = select(Study.comparison_id, func.array_agg(Study.state), func.array_agg(Study.id), budgets).where(of_page)
    heads = {key: head for key, *head in session.execute(head.group_by(Study.comparison_id))}
    counts = standing.counting(session, [study_id for _, ids, _ in heads.values() for study_id in ids])
    rows = []
    for comparison in page:
        states, ids, budget = heads.get(comparison.id, ([], [], 0))
        rows.append(ComparisonRow(comparison, states, sum(counts.get(study_id, 0) for study_id in ids), budget))
    return rows, following


def _newest_first(
    session: Session, query: Select, table: Any, is_id: Callable[[str], bool], limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    if cursor is not None:
        moment, row_id = _read(cursor, str, str)
        if not is_id(row_id):
            raise InvalidCursor
        query = query.where(tuple_(table.created_at, table.id) < (_moment(moment), row_id))
    found = list(session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)))
    page = found[:limit]
    return page, _write(page[-1].created_at.isoformat(), page[-1].id) if len(found) > limit else None


def with_counts(session: Session, page: list[Study]) -> list[StudyRow]:
    """The studies with how far each is."""
    ids = [study.id for study in page]
    counting, running = standing.counting(session, ids), standing.running(session, ids)
    best = standing.best_values(session, page)
    return [StudyRow(study, counting.get(study.id, 0), running.get(study.id, 0), best[study.id]) for study in page]


def trials(
    session: Session, study_id: str, outcome: Outcome | None, limit: int, cursor: str | None = None
) -> tuple[list[Trial], str | None]:
    """Attempts by ordinal and attempt, with the cursor of the next page. Each without log and result: curves, traces
    and losses per token may be megabytes.

    Raises ``InvalidCursor``.
    """
    heavy = [defer(column, raiseload=True) for column in (Trial.log, Trial.result)]
    query = select(Trial).where(Trial.study_id == study_id).options(*heavy)
    if outcome is not None:
        query = query.where(Trial.outcome == outcome)
    if cursor is not None:
        query = query.where(tuple_(Trial.ordinal, Trial.attempt) > _read(cursor, int, int))
    found = list(session.scalars(query.order_by(Trial.ordinal, Trial.attempt).limit(limit + 1)))
    page = found[:limit]
    return page, _write(page[-1].ordinal, page[-1].attempt) if len(found) > limit else None


def attempts(session: Session, study_id: str, ordinal: int) -> list[Trial]:
    """All attempts at one trial, first to last; empty for an ordinal that was never started."""
    query = select(Trial).where(Trial.study_id == study_id, Trial.ordinal == ordinal)
    return list(session.scalars(query.order_by(Trial.attempt)))


def _write(*key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(cursor: str, *kinds: type) -> tuple:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidCursor from None
    well_formed = isinstance(key, list) and len(key) == len(kinds)
    if not well_formed or any(type(part) is not kind for part, kind in zip(key, kinds, strict=True)):
        raise InvalidCursor
    if any(isinstance(part, int) and not 0 <= part < 2**31 for part in key):
        raise InvalidCursor
    return tuple(key)


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidCursor from None
    if moment.tzinfo is None:
        raise InvalidCursor
    return moment
