"""What the trials of a study showed while they were attacked, for its pruner."""

from sqlalchemy.orm import Session

from mudman import pruning
from mudman.pruning import Told
from mudman.results import Curve, Outcome
from mudman.specs import StudySpec
from service.store import attempts
from service.store.attempts import Record


class Curves:
    """By ordinal; empty where the study has no pruner."""

    def __init__(self, spec: StudySpec):
        self._spec = spec
        self._told: dict[int, Told] = {}

    @classmethod
    def stored(cls, session: Session, spec: StudySpec, study_id: str, rows: list[Record]) -> "Curves":
        curves = cls(spec)
        if spec.pruner is not None:
            outcomes = {row.ordinal: row.ending.outcome for row in rows if row.ending and row.ending.outcome.counts}
            for ordinal, curve in attempts.curves(session, study_id).items():
                curves.tell(ordinal, outcomes[ordinal], curve)
        return curves

    def tell(self, ordinal: int, outcome: Outcome, relearning: Curve) -> None:
        told = None if self._spec.pruner is None else Told.of(outcome, relearning, self._spec.objective)
        if told is not None:
            self._told[ordinal] = told

    def cuts(self, ordinal: int) -> dict[int, float]:
        """Of the ordinal, whichever attempt at it starts: later ordinals, told in the meantime, do not judge it."""
        return pruning.cuts(self._spec, [told for earlier, told in self._told.items() if earlier < ordinal])
