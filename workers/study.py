"""One study in a runner's hand: its book, its mirror, and its rows, kept in step.

Rows first: the book and the mirror move only after the transaction that started or ended an attempt. Every step may be
repeated, so that a step that a lost connection cut off is simply done again.
"""

import logging
from typing import Any

from optuna.distributions import distribution_to_json

from mudman.results import Outcome, TrialResult
from mudman.specs import StudySpec
from service.store import attempts, optuna_rows, studies
from service.store.attempts import Ending, Record
from service.store.database import Database
from service.store.leases import Lease
from service.store.mirror import Mirror, distribution
from service.store.states import State
from workers.book import Attempt, Book

log = logging.getLogger(__name__)


class StudyInHand:
    """Every method that touches rows may raise ``DatabaseUnavailable`` or ``LeaseLost``."""

    def __init__(self, database: Database, lease: Lease, study_id: str):
        """Take the study over: settle what a dead runner left behind, then rebuild book and mirror from the rows."""
        self._database, self._lease, self.id = database, lease, study_id
        with database.begin() as session:
            study = studies.get(session, study_id)
            self.spec, self.state = _pinned(StudySpec.model_validate(study.spec), study.preparation), State(study.state)
            optuna_rows.create(session, study_id, self.spec.objective.direction)
            rows = attempts.history(session, study_id)
        self._settle_left_behind(rows)
        with database.begin() as session:
            rows = attempts.history(session, study_id)
            self._next_number = optuna_rows.next_number(session, study_id)
        self.book = Book.of(study_id, self.spec, rows)
        self._mirror = _mirror(self.spec, self.book, rows)
        space = self.spec.search_space().items()
        self._distributions = {name: distribution_to_json(distribution(range_)) for name, range_ in space}
        self._unborn: Attempt | None = None

    def pin(self, preparation: dict[str, Any]) -> None:
        """From now on trials use the revisions that the preparation found, whatever the branches move to."""
        self.spec = self.book.spec = _pinned(self.spec, preparation)

    def next(self) -> Attempt | None:
        """Start the next attempt in both tables, and in the book; None if there is none to start."""
        if self._unborn is None:
            self._unborn = self._choose()
        attempt = self._unborn
        if attempt is None:
            return None
        with self._database.begin() as session:
            attempts.start(
                session,
                self._lease,
                self.id,
                attempt.ordinal,
                attempt.attempt,
                attempt.hyperparameters,
                number=self._next_number,
                distributions=self._distributions,
                opened=attempt.opened,
            )
        self._next_number += 1
        self.book.start(attempt)
        self._unborn = None
        return attempt

    def settle(self, attempt: Attempt, result: TrialResult) -> None:
        """The attempt has ended: its rows, then the book and the mirror."""
        ending = Ending.of(result)
        self._record(attempt.ordinal, attempt.attempt, result)
        if self.book.end(attempt, ending.outcome):
            self._mirror.tell(attempt.ordinal, ending)
        log.info("%s: %s%s", attempt, result.outcome, "" if result.value is None else f", value {result.value:.4f}")

    def _choose(self) -> Attempt | None:
        if self.book.again:
            return self.book.again.popleft()
        if not self.book.may_ask():
            return None
        suggestion = self._mirror.ask()
        return Attempt(self.id, suggestion.ordinal, 1, suggestion.hyperparameters, opened=suggestion.open)

    def _settle_left_behind(self, rows: list[Record]) -> None:
        """An attempt without an end is lost (or, in a study that was ended, over)."""
        outcome = Outcome.CANCELLED if self.state.finished else Outcome.LOST
        for row in rows:
            if row.ending is None:
                log.warning(
                    "%s trial %d attempt %d: left behind, recorded as %s", self.id, row.ordinal, row.attempt, outcome
                )
                self._record(row.ordinal, row.attempt, TrialResult(outcome=outcome))

    def _record(self, ordinal: int, attempt: int, result: TrialResult) -> None:
        with self._database.begin() as session:
            attempts.record(session, self._lease, self.id, ordinal, attempt, result)


def _pinned(spec: StudySpec, preparation: dict[str, Any] | None) -> StudySpec:
    if preparation is None:
        return spec
    sections = {"model": spec.model.model_copy(update={"revision": preparation["model_revision"]})}
    for field, corpus in preparation["corpora"].items():
        found = {"revision": corpus["revision"]}
        if field == "attack":  # texts of its own
            sections[field] = spec.attack.model_copy(update={"texts": spec.attack.texts.model_copy(update=found)})
        else:
            sections[field] = getattr(spec, field).model_copy(update=found)
    return spec.model_copy(update=sections)


def _mirror(spec: StudySpec, book: Book, rows: list[Record]) -> Mirror:
    """One trial per ordinal: the last attempt's end, or none while the ordinal is to be started again."""
    again = {attempt.ordinal for attempt in book.again}
    last = {row.ordinal: row for row in rows}
    mirror = Mirror(spec)
    for ordinal in sorted(last):
        mirror.restore(ordinal, last[ordinal].hyperparameters, None if ordinal in again else last[ordinal].ending)
    return mirror
