"""The thread that owns the database while trials run, so that Tune's own thread never waits for it.

Each turn: settle what has ended, then (once a second) store progress and look at the studies' states, then ask a little
ahead. While Postgres is away, ended attempts wait here and are delivered when it is back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy import select

from mudman.results import TrialResult
from service.store import attempts, leases, studies
from service.store.database import Database, DatabaseUnavailable
from service.store.leases import Lease
from service.store.states import Action, RefusedTransition, State
from service.store.tables import Study
from workers.book import Attempt
from workers.desk import Desk
from workers.problems import too_much_waste
from workers.study import StudyInHand

log = logging.getLogger(__name__)

TURN = 0.25
"""Seconds that a turn waits for something to happen."""
AHEAD = 2
"""Attempts of the whole group that wait to be taken, at most. Each is sampled without the results of those that run,
and lost with the runner; more would bring nothing, for Tune itself has taken one before there is a place for it."""
LOOK = 0.9
"""Seconds between two looks at the studies' states, and between two writes of an attempt's progress."""


class Ledger(threading.Thread):
    """``failure`` holds what ended it, if it did not end by ``finish``."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        desk: Desk,
        running: dict[str, StudyInHand],
        max_live: Callable[[], int | None],
    ):
        super().__init__(name="ledger", daemon=True)
        self._database, self._lease, self._desk, self._max_live = database, lease, desk, max_live
        self._studies, self._active = running, dict(running)
        self._unsettled: deque[tuple[Attempt, TrialResult]] = deque()
        self._looked = 0.0
        self._others_wait = False
        """Whether a study of the group was queued after this runner had begun: only the next one takes it in hand."""
        self._finishing = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not (self._finishing and self._settled()):
                self._desk.wait(TURN)
                try:
                    self._turn()
                except DatabaseUnavailable as error:
                    log.warning("%s %d result(s) wait.", error, len(self._unsettled))
                    time.sleep(TURN)
        except BaseException as error:  # noqa: BLE001 - handed to the runner's main thread, which raises it
            self.failure = error
            self._desk.halt()

    def finish(self, timeout: float) -> None:
        """After Tune has ended: wait until all is settled, for ``timeout`` seconds. Raises what ended the thread."""
        self._finishing = True
        self.join(timeout)
        if self.failure is not None:
            raise self.failure
        if self.is_alive():
            raise DatabaseUnavailable(f"{len(self._unsettled)} result(s) could not be delivered.")

    def _settled(self) -> bool:
        self._unsettled += self._desk.ended()
        return not self._unsettled

    def _turn(self) -> None:
        while not self._settled():
            attempt, result = self._unsettled[0]
            self._studies[attempt.study_id].settle(attempt, result)
            self._unsettled.popleft()
        due = time.monotonic() - self._looked >= LOOK
        if due or self._desk.news:
            self._store_progress()
        if due:
            self._look()
            self._looked = time.monotonic()
        for study in list(self._active.values()):
            self._judge(study)
        if not self._active or (self._others_wait and not self._open()):
            self._desk.halt()
        elif not (self._others_wait or self._desk.halted):
            self._ask_ahead()

    def _store_progress(self) -> None:
        if words := self._desk.words():
            with self._database.begin() as session:
                for attempt, word in words.items():
                    key = (attempt.study_id, attempt.ordinal, attempt.attempt)
                    attempts.progress(session, self._lease, *key, word.progress, word.worker)

    def _look(self) -> None:
        """Whoever cancels, pauses or queues a study changes its state; the runner follows."""
        queued = select(Study.id).where(Study.group_id == self._lease.group_id, Study.state == State.QUEUED).limit(1)
        with self._database.begin() as session:
            states = session.execute(select(Study.id, Study.state).where(Study.id.in_(self._active))).all()
            self._others_wait = session.scalar(queued) is not None
        for study_id, state in states:
            if state != State.RUNNING:
                log.info("study %s is %s: its trials end", study_id, state)
                self._dismiss(study_id)

    def _judge(self, study: StudyInHand) -> None:
        book = study.book
        if book.complete and not book.open:
            self._conclude(study, Action.COMPLETE, {"trials": book.counted})
        elif book.hopeless:
            problem = too_much_waste(study.spec, book.wasted)
            self._conclude(study, Action.FAIL, {"reason": problem["detail"]}, problem)

    def _conclude(self, study: StudyInHand, action: Action, data: dict, problem: dict | None = None) -> None:
        try:
            with self._database.begin() as session:
                leases.guard(session, self._lease)
                studies.change_state(session, study.id, action, data=data, problem=problem)
        except RefusedTransition as refusal:
            log.info("%s", refusal)  # somebody was faster: cancelled, for example
        log.info("study %s: %s", study.id, action)
        self._dismiss(study.id)

    def _dismiss(self, study_id: str) -> None:
        del self._active[study_id]
        self._desk.withdraw(study_id)

    def _ask_ahead(self) -> None:
        """See to it that something waits for every free place, the studies taking turns, also from one call to the
        next.

        A place is free again only after its result was told: with one place the next suggestion always knows every
        result before it.
        """
        asking = list(self._active.values())
        while asking and self._free_places() > 0 and self._desk.waiting < AHEAD:
            study = asking.pop(0)
            if len(study.book.open) < study.spec.resources.max_concurrent and (attempt := study.next()):
                self._desk.offer(attempt)
                asking.append(study)
                self._active[study.id] = self._active.pop(study.id)  # to the end of the line

    def _free_places(self) -> float:
        limit = self._max_live()
        if limit is None:
            return float("inf")
        return limit - self._open()

    def _open(self) -> int:
        return sum(len(study.book.open) for study in self._studies.values())
