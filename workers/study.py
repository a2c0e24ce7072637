"""One study in a runner's hand: its book, its mirror, and its rows, kept in step.

Rows first: the book and the mirror move only after the transaction that started or ended an attempt. Every step may be
repeated, so that a step that a lost connection cut off is simply done again.
"""

import logging
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from optuna.distributions import distribution_to_json
from sqlalchemy import Row

from mudman.faults import MudmanError
from mudman.results import Fault, Outcome, TrialResult
from mudman.specs import StudySpec
from service.store import attempts, enqueued, optuna_rows, studies
from service.store.attempts import Ending, Overtaken, Record, Recorded
from service.store.database import Database
from service.store.leases import Lease
from service.store.mirror import Mirror, Suggestion, distribution
from service.store.pinning import pinned
from service.store.states import State
from workers.book import Attempt, Book
from workers.curves import Curves

log = logging.getLogger(__name__)

LISTEN = 0.1
"""Seconds between two looks at the rest of the world while a sampler thinks."""
RUNNER_DIED = Fault(
    type="RunnerDied",
    message="the process that drove the study died or lost its lease while this trial ran; nothing was wrong with the "
    "trial. It runs again, three times in all. Remedy: see the study's events for why",
)


class SamplerFailed(MudmanError):
    """The study's sampler broke; ``fault`` says how."""

    def __init__(self, fault: Fault):
        super().__init__(f"{fault.type}: {fault.message}")
        self.fault = fault

    def __reduce__(self):
        return SamplerFailed, (self.fault,)


class StudyInHand:
    """Every method that touches rows may raise ``DatabaseUnavailable`` or ``LeaseLost``."""

    def __init__(self, database: Database, lease: Lease, study_id: str):
        """Take the study over: settle what a dead runner left behind, then rebuild book and mirror from the rows."""
        self._database, self._lease, self.id = database, lease, study_id
        with database.begin() as session:
            study = studies.get(session, study_id)
            self.spec, self.state = pinned(StudySpec.model_validate(study.spec), study.preparation), State(study.state)
            self.queued_at, self.prepared = study.queued_at, study.preparation is not None
            optuna_rows.create(session, study_id, self.spec.objective.direction)
            left_behind = attempts.unfinished(session, study_id)
        self._settle_left_behind(left_behind)
        with database.begin() as session:
            rows = attempts.history(session, study_id)
            self._curves = Curves.stored(session, self.spec, study_id, rows)
        self.book = Book.of(study_id, self.spec, rows)
        self._mirror = _mirror(self.spec, self.book, rows)
        space = self.spec.search_space().items()
        self._distributions = {name: distribution_to_json(distribution(range_)) for name, range_ in space}
        self._unborn: Attempt | None = None
        self._enqueued = True
        """Whether an enqueued trial may wait: not if the store has just said that none does."""

    def pin(self, preparation: dict[str, Any]) -> None:
        """From now on trials use the revisions that the preparation found, whatever the branches move to."""
        self.spec = self.book.spec = pinned(self.spec, preparation)

    def next(self, meanwhile: Callable[[], None] = lambda: None) -> Attempt | None:
        """Start the next attempt in both tables, and in the book; None if there is none to start. May raise
        ``SamplerFailed``. ``meanwhile``: called again and again while a sampler thinks for long."""
        if self._unborn is None and (chosen := self._choose(meanwhile)):
            self._unborn = replace(chosen, cuts=self._curves.cuts(chosen.ordinal))
        attempt = self._unborn
        if attempt is None:
            return None
        try:
            self._start(attempt)
        except Overtaken:
            attempt = self._unborn = self._giving_way(attempt)
            self._start(attempt)
        self._unborn = None
        self._born(attempt)
        return attempt

    def dismiss(self) -> None:
        """Nothing of it is started any more. What was about to be is forgotten, unless its start was stored and only
        the answer lost: then it ends."""
        if attempt := self._unborn:
            with self._database.begin() as session:
                there = [(ordinal, number) for ordinal, number, _ in attempts.unfinished(session, self.id)]
            if (attempt.ordinal, attempt.attempt) in there:
                self._born(attempt)
                self.settle(attempt, TrialResult(outcome=Outcome.CANCELLED))
        self._unborn = None

    def _born(self, attempt: Attempt) -> None:
        self.book.start(attempt)
        if attempt.attempt == 1:
            self._mirror.begin(attempt.ordinal, attempt.hyperparameters)

    def _start(self, attempt: Attempt) -> None:
        with self._database.begin() as session:
            attempts.start(
                session,
                self._lease,
                self.id,
                attempt.ordinal,
                attempt.attempt,
                attempt.hyperparameters,
                distributions=self._distributions,
                opened=attempt.opened,
                enqueued=attempt.enqueued,
            )

    def _giving_way(self, sampled: Attempt) -> Attempt:
        """What was enqueued meanwhile takes the ordinal; what it leaves out is as it was sampled."""
        with self._database.begin() as session:
            chosen = enqueued.first(session, self.id)
        hyperparameters = sampled.hyperparameters | chosen.hyperparameters
        return replace(sampled, hyperparameters=hyperparameters, enqueued=chosen.sequence)

    def settle(self, attempt: Attempt, result: TrialResult) -> None:
        """The attempt has ended: its rows, then the book and the mirror."""
        ending = Ending.of(result)
        recorded = self._record(attempt.ordinal, attempt.attempt, result)
        self._enqueued = recorded is None or recorded.enqueued
        if self.book.end(attempt, ending.outcome):
            self._mirror.tell(attempt.ordinal, ending)
            self._curves.tell(attempt.ordinal, ending.outcome, result.relearning)
        log.info("%s: %s%s", attempt, ending.reason, "" if result.value is None else f", value {result.value:.4f}")

    @property
    def startable(self) -> bool:
        """Whether there is something to start, and the study allows one more at once."""
        return len(self.book.open) < self.spec.resources.max_concurrent and bool(self.book.again or self.book.may_ask())

    def _choose(self, meanwhile: Callable[[], None]) -> Attempt | None:
        if self.book.again:
            return next(iter(self.book.again))
        if not self.book.may_ask():
            return None
        chosen = self._first_enqueued()
        suggestion = self._suggested(chosen.hyperparameters if chosen else self._repeated(), meanwhile)
        sequence = chosen.sequence if chosen else None
        return Attempt(
            self.id, suggestion.ordinal, 1, suggestion.hyperparameters, opened=suggestion.open, enqueued=sequence
        )

    def _suggested(self, fixed: dict[str, float] | None, meanwhile: Callable[[], None]) -> Suggestion:
        if not self._mirror.thinks_long:
            return self._sampled(fixed)
        with ThreadPoolExecutor(1, "sampler") as pool:
            thought = pool.submit(self._sampled, fixed)
            while wait([thought], LISTEN).not_done:
                meanwhile()
        return thought.result()

    def _sampled(self, fixed: dict[str, float] | None) -> Suggestion:
        try:
            return self._mirror.suggest(fixed)
        except Exception as error:  # whatever a sampler's arithmetic may end in
            fault = Fault(type=type(error).__name__, message=str(error), traceback=traceback.format_exc())
            raise SamplerFailed(fault) from error

    def _repeated(self) -> dict[str, float] | None:
        """What the next trial repeats, in a study that repeats others."""
        repeats = self.spec.repeats
        return repeats and repeats.hyperparameters(self._mirror.following, self.spec.search_space())

    def _first_enqueued(self) -> Row[tuple[int, dict[str, float]]] | None:
        if not self._enqueued:
            self._enqueued = True  # by the next time
            return None
        with self._database.begin() as session:
            return enqueued.first(session, self.id)

    def _settle_left_behind(self, keys: list[tuple[int, int, bool]]) -> None:
        """An attempt without an end is lost; but not where no worker had begun it, nor in a study that was ended or
        paused, where it was over anyway."""
        over = self.state.finished or self.state is State.PAUSED
        for ordinal, number, begun in keys:
            outcome = Outcome.LOST if begun and not over else Outcome.CANCELLED
            fault = RUNNER_DIED if outcome is Outcome.LOST else None
            result = TrialResult(outcome=outcome, fault=fault)
            self._record(ordinal, number, result)
            log.warning("%s: %s (left behind)", Attempt(self.id, ordinal, number, {}), Ending.of(result).reason)

    def _record(self, ordinal: int, attempt: int, result: TrialResult) -> Recorded | None:
        with self._database.begin() as session:
            return attempts.record(session, self._lease, self.id, ordinal, attempt, result)


def _mirror(spec: StudySpec, book: Book, rows: list[Record]) -> Mirror:
    """One trial per ordinal: the last attempt's end, or none while the ordinal is to be started again."""
    again = {attempt.ordinal for attempt in book.again}
    last = {row.ordinal: row for row in rows}
    mirror = Mirror(spec)
    for ordinal in sorted(last):
        mirror.restore(ordinal, last[ordinal].hyperparameters, None if ordinal in again else last[ordinal].ending)
    return mirror
