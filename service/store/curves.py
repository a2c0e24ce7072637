"""Relearning curves, taken out of results that may be megabytes by the database."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mudman.results import Curve, Outcome, Trace
from mudman.specs import minimised
from service.store.tables import Study, Trial


def of_last_valid(session: Session, study_id: str, many: int) -> dict[int, Curve]:
    """Of the last valid trials, by ordinal; those without a curve are left out."""
    valid = (Trial.study_id == study_id, Trial.outcome == Outcome.VALID)
    query = select(Trial.ordinal, Trial.result["relearning"]).where(*valid).order_by(Trial.ordinal.desc()).limit(many)
    return {ordinal: curve for ordinal, found in session.execute(query) if (curve := _read(found))}


def of_valid(session: Session, study_id: str, ordinal: int) -> Curve | None:
    where = (Trial.study_id == study_id, Trial.ordinal == ordinal, Trial.outcome == Outcome.VALID)
    return _read(session.scalar(select(Trial.result["relearning"]).where(*where)))


def trace_of_best(session: Session, study: Study, ordinals: Collection[int] | None) -> tuple[int, Trace] | None:
    """Of the best valid trial that has one; ``ordinals``: looked for among these alone."""
    trace = Trial.result["trace"]
    order = Trial.value.asc() if minimised(study.spec) else Trial.value.desc()
    query = select(Trial.ordinal, trace).where(
        Trial.study_id == study.id, Trial.outcome == Outcome.VALID, func.jsonb_typeof(trace) == "object"
    )
    if ordinals is not None:
        query = query.where(Trial.ordinal.in_(ordinals))
    found = session.execute(query.order_by(order, Trial.ordinal).limit(1)).first()
    return found and (found[0], Trace.model_validate(found[1]))


def _read(found: dict | None) -> Curve | None:
    curve = Curve.model_validate(found) if found else None
    return curve if curve and curve.passes else None
