"""Relearning curves, taken out of results that may be megabytes by the database."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.results import Curve, Outcome
from service.store.tables import Trial


def of_last_valid(session: Session, study_id: str, many: int) -> dict[int, Curve]:
    """Of the last valid trials, by ordinal; those without a curve are left out."""
    valid = (Trial.study_id == study_id, Trial.outcome == Outcome.VALID)
    query = select(Trial.ordinal, Trial.result["relearning"]).where(*valid).order_by(Trial.ordinal.desc()).limit(many)
    return {ordinal: curve for ordinal, found in session.execute(query) if (curve := _read(found))}


def of_valid(session: Session, study_id: str, ordinal: int) -> Curve | None:
    where = (Trial.study_id == study_id, Trial.ordinal == ordinal, Trial.outcome == Outcome.VALID)
    return _read(session.scalar(select(Trial.result["relearning"]).where(*where)))


def _read(found: dict | None) -> Curve | None:
    curve = Curve.model_validate(found) if found else None
    return curve if curve and curve.passes else None
