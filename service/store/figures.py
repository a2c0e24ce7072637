"""What figures of a study are drawn from, read as it is asked for."""

from sqlalchemy.orm import Session

from mudman.results import Curve, Trace
from mudman.specs import StudySpec
from service.statistics.compute import Attempt
from service.store import curves, standing
from service.store.tables import Study


class Stored:
    """``figures.of_study.Source`` over the trials in the database."""

    def __init__(self, session: Session, study: Study):
        self._session, self._study = session, study

    def finished(self) -> list[Attempt]:
        return standing.finished(self._session, [self._study.id])[self._study.id]

    def valid(self) -> list[Attempt]:
        return standing.valid(self._session, self._study.id)

    def best(self) -> Attempt:
        return standing.top(self._session, self._study, 1)[0]

    def last_curves(self, many: int) -> dict[int, Curve]:
        return curves.of_last_valid(self._session, self._study.id, many)

    def curve(self, ordinal: int) -> Curve | None:
        return curves.of_valid(self._session, self._study.id, ordinal)

    def trace(self) -> tuple[int, Trace] | None:
        # Where none is kept nobody looks for one among results that may be many.
        recorded = StudySpec.model_validate(self._study.spec).record
        if not recorded.trace:
            return None
        return curves.trace_of_best(self._session, self._study, recorded.trials)
