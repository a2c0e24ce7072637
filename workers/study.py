"""One study in a runner's hand: its book, its mirror, and its rows, kept in step.

Result first: the row of an attempt is committed before Optuna is told, and the book moves only after both. Every step
may be repeated, so that a step that a lost connection cut off is simply done again.
"""

import logging
from dataclasses import replace
from typing import Any

from optuna.storages import RDBStorage

from mudman.results import Outcome, TrialResult
from mudman.specs import StudySpec
from service.store import attempts, search, studies
from service.store.attempts import Ending, Record
from service.store.database import Database
from service.store.leases import Lease
from service.store.search import Mirror, Search
from service.store.states import State
from workers.book import Attempt, Book

log = logging.getLogger(__name__)


class StudyInHand:
    """Every method that touches rows may raise ``DatabaseUnavailable`` or ``LeaseLost``."""

    def __init__(self, database: Database, storage: RDBStorage, lease: Lease, study_id: str):
        """Take the study over: settle what a dead runner left behind, then rebuild book and mirror from the rows."""
        self._database, self._lease, self.id = database, lease, study_id
        with database.begin() as session:
            study = studies.get(session, study_id)
            self.spec, self.state = _pinned(StudySpec.model_validate(study.spec), study.preparation), State(study.state)
            rows = attempts.history(session, study_id)
        self._search = Search(storage, lease, study_id, self.spec)
        self._unborn: Attempt | None = None
        self._settle_left_behind(rows)
        self.close_orphans()
        with database.begin() as session:
            rows = attempts.history(session, study_id)
        self.book = Book.of(study_id, self.spec, rows)
        self._mirror = _mirror(self.spec, self.book, rows)

    def pin(self, preparation: dict[str, Any]) -> None:
        """From now on trials use the revisions that the preparation found, whatever the branches move to."""
        self.spec = self.book.spec = _pinned(self.spec, preparation)

    def next(self) -> Attempt | None:
        """Start the next attempt in both tables, and in the book; None if there is none to start."""
        if self._unborn is None:
            self._unborn = self._choose()
        if self._unborn is None:
            return None
        attempt = self._unborn
        if attempt.optuna_id is None:
            optuna_id = self._search.insert(attempt.ordinal, attempt.attempt, attempt.hyperparameters, attempt.opened)
            attempt = self._unborn = replace(attempt, optuna_id=optuna_id)
        with self._database.begin() as session:
            attempts.start(
                session,
                self._lease,
                self.id,
                attempt.ordinal,
                attempt.attempt,
                attempt.hyperparameters,
                attempt.optuna_id,
            )
        self.book.start(attempt)
        self._unborn = None
        return attempt

    def settle(self, attempt: Attempt, result: TrialResult) -> None:
        """The attempt has ended: its row, then Optuna, then the book and the mirror."""
        ending = Ending.of(result)
        self._store(attempt, result)
        self._tell(attempt, ending)
        if self.book.end(attempt, ending.outcome):
            self._mirror.tell(attempt.ordinal, ending)
        log.info("%s: %s%s", attempt, result.outcome, "" if result.value is None else f", value {result.value:.4f}")

    def close_orphans(self) -> None:
        """End those of Optuna's trials that a runner asked for and never wrote an attempt for."""
        with self._database.begin() as session:
            running = search.running_in_optuna(session, self.id)
            orphans = attempts.orphans(session, self.id, running)
        for optuna_id in orphans:
            self._search.tell(optuna_id, Ending(Outcome.LOST, reason="lost: its runner ended before it began"))

    def _choose(self) -> Attempt | None:
        if self.book.again:
            return self.book.again.popleft()
        if not self.book.may_ask():
            return None
        suggestion = self._mirror.ask()
        return Attempt(self.id, suggestion.ordinal, 1, suggestion.hyperparameters, opened=suggestion.open)

    def _settle_left_behind(self, rows: list[Record]) -> None:
        """First tell the results that are stored; only what has none is lost (or, in a study that was ended, over)."""
        for row in rows:
            if row.ending is not None and not row.told:
                self._tell(self._attempt(row), row.ending)
        for row in rows:
            if row.ending is None:
                outcome = Outcome.CANCELLED if self.state.finished else Outcome.LOST
                attempt = self._attempt(row)
                log.warning("%s: left behind, recorded as %s", attempt, outcome)
                self._store(attempt, TrialResult(outcome=outcome))
                self._tell(attempt, Ending(outcome))

    def _attempt(self, row: Record) -> Attempt:
        return Attempt(self.id, row.ordinal, row.attempt, row.hyperparameters, row.optuna_id)

    def _store(self, attempt: Attempt, result: TrialResult) -> None:
        with self._database.begin() as session:
            attempts.record(session, self._lease, self.id, attempt.ordinal, attempt.attempt, result)

    def _tell(self, attempt: Attempt, ending: Ending) -> None:
        if attempt.optuna_id is not None:
            self._search.tell(attempt.optuna_id, ending)
        with self._database.begin() as session:
            attempts.mark_told(session, self._lease, self.id, attempt.ordinal, attempt.attempt)


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
