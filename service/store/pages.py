"""Pages of studies and trials. A cursor names the last row seen (a keyset), so that pages neither skip nor repeat rows
when others are added, and the last page costs what the first does."""

import base64
import binascii
import datetime
import json
from dataclasses import dataclass, field

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session, defer

from mudman.faults import MudmanError
from mudman.results import Outcome
from service.store.states import State
from service.store.studies import COUNTING, is_study_id
from service.store.tables import Study, Trial


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
    if cursor is not None:
        moment, study_id = _read(cursor, str, str)
        if not is_study_id(study_id):
            raise InvalidCursor
        query = query.where(tuple_(Study.created_at, Study.id) < (_moment(moment), study_id))
    found = list(session.scalars(query.order_by(Study.created_at.desc(), Study.id.desc()).limit(limit + 1)))
    page = found[:limit]
    following = _write(page[-1].created_at.isoformat(), page[-1].id) if len(found) > limit else None
    return _with_counts(session, page), following


def _with_counts(session: Session, page: list[Study]) -> list[StudyRow]:
    query = select(
        Trial.study_id,
        func.count().filter(Trial.outcome.in_(COUNTING)),
        func.count().filter(Trial.outcome.is_(None)),
        func.max(Trial.value).filter(Trial.outcome == Outcome.VALID),
    )
    query = query.where(Trial.study_id.in_([study.id for study in page])).group_by(Trial.study_id)
    counted = {study_id: numbers for study_id, *numbers in session.execute(query)}
    return [StudyRow(study, *counted.get(study.id, (0, 0, None))) for study in page]


def trials(
    session: Session, study_id: str, outcome: Outcome | None, limit: int, cursor: str | None = None
) -> tuple[list[Trial], str | None]:
    """Attempts by ordinal and attempt, without logs and curves, with the cursor of the next page.

    Raises ``InvalidCursor``.
    """
    query = select(Trial).where(Trial.study_id == study_id).options(defer(Trial.log, raiseload=True))
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
