"""What figures of a study are drawn from, read as it is asked for."""

from mudman.results import Curve, Trace
from mudman.specs import StudySpec
from service.statistics.compute import Attempt, Tally
from service.store import curves, recent, standing
from service.store.database import Database
from service.store.events import UnknownStudy
from service.store.tables import Study


class Stored:
    """``figures.of_study.Source`` over the trials in the database, with a transaction for each look: drawing holds
    none."""

    def __init__(self, store: Database, study: Study):
        self._store, self._study = store, study

    def finished(self) -> list[Attempt]:
        with self._store.begin() as session:
            return standing.finished(session, [self._study.id])[self._study.id]

    def valid(self) -> list[Attempt]:
        with self._store.begin() as session:
            return standing.valid(session, self._study.id)

    def best(self) -> Attempt:
        with self._store.begin() as session:
            found = standing.top(session, self._study, 1)
        if not found:
            raise UnknownStudy(self._study.id)  # it was deleted meanwhile
        return found[0]

    def last_curves(self, many: int) -> dict[int, Curve]:
        with self._store.begin() as session:
            return curves.of_last_valid(session, self._study.id, many)

    def curve(self, ordinal: int) -> Curve | None:
        with self._store.begin() as session:
            return curves.of_valid(session, self._study.id, ordinal)

    def trace(self) -> tuple[int, Trace] | None:
        # Where none is kept nobody looks for one among results that may be many.
        recorded = StudySpec.model_validate(self._study.spec).record
        if not recorded.trace:
            return None
        with self._store.begin() as session:
            return curves.trace_of_best(session, self._study, recorded.trials)

    def spent(self) -> Tally:
        with self._store.begin() as session:
            return recent.tallies(session, [self._study])[self._study.id]
