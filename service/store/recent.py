"""What the mean of a study is taken over, without a look at the rest: pages are asked for often, by many."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store import standing
from service.store.standing import Tally
from service.store.tables import OutcomeCount, Study, Trial


def tallies(session: Session, page: Collection[Study]) -> dict[str, Tally]:
    """As ``standing.tallies``, of the last valid trials that the study's statistics ask for, before them the best where
    it is none of them. Nothing is said of what was spent: that is a sum over every trial."""
    outcomes: dict[str, dict[str, int]] = defaultdict(dict)
    kept = select(OutcomeCount.study_id, OutcomeCount.outcome, OutcomeCount.attempts)
    for study_id, outcome, attempts in session.execute(
        kept.where(OutcomeCount.study_id.in_([study.id for study in page]))
    ):
        outcomes[study_id][outcome] = attempts
    best = standing.best_values(session, page)
    return {study.id: Tally(_values(session, study, best[study.id]), outcomes[study.id]) for study in page}


def _values(session: Session, study: Study, best: float | None) -> list[float]:
    last = StudySpec.model_validate(study.spec).statistics.last
    valid = select(Trial.value).where(Trial.study_id == study.id, Trial.outcome == Outcome.VALID)
    newest = session.scalars(valid.where(Trial.value.is_not(None)).order_by(Trial.ordinal.desc()).limit(last))
    values = list(newest)[::-1]
    return values if best is None or best in values else [best, *values]
