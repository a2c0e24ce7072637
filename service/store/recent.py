"""What the numbers of a comparison are taken over, without a look at the rest: tables are asked for often, by many."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.specs import StudySpec, minimised
from service.statistics.compute import Tally, total
from service.statistics.means import TOP
from service.store import standing
from service.store.tables import OutcomeCount, Study, Trial


def tallies(session: Session, page: Collection[Study], *, spent: bool = True) -> dict[str, Tally]:
    """Of each study the last valid trials that its statistics ask for, before them those of its best that are none of
    them, and how many ended how. What was spent is a sum over every trial: only where it is asked for."""
    ids = [study.id for study in page]
    if spent:
        sums = {study_id: total(parts) for study_id, parts in standing.sums(session, ids).items()}
    else:
        sums = {study_id: Tally(outcomes=found) for study_id, found in _outcomes(session, ids).items()}
    return {study.id: sums[study.id].over(_values(session, study)) for study in page}


def _outcomes(session: Session, study_ids: Collection[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict, {study_id: {} for study_id in study_ids})
    kept = select(OutcomeCount.study_id, OutcomeCount.outcome, OutcomeCount.attempts)
    for study_id, outcome, attempts in session.execute(kept.where(OutcomeCount.study_id.in_(study_ids))):
        found[study_id][outcome] = attempts
    return found


def _values(session: Session, study: Study) -> list[float]:
    """By ordinal. The window of the mean is the end of it, whatever stands before."""
    last = StudySpec.model_validate(study.spec).statistics.last
    valid = select(Trial.ordinal, Trial.value).where(
        Trial.study_id == study.id, Trial.outcome == standing.VALID, Trial.value.is_not(None)
    )
    window = dict(session.execute(valid.order_by(Trial.ordinal.desc()).limit(last)).tuples().all())
    better = Trial.value.asc() if minimised(study.spec) else Trial.value.desc()
    best = dict(session.execute(valid.order_by(better).limit(TOP)).tuples().all())
    return [value for _, value in sorted((best | window).items())]
