"""The thread that owns the database while trials run, so that Tune's own thread never waits for it.

Each turn: settle what has ended, then (once a second) store progress and look at the studies' states, then ask a little
ahead. While Postgres is away, ended attempts wait here and are delivered when it is back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import select

from mudman.results import TrialResult
from service.store import attempts, enqueued, events, leases, nodes, repeating, studies
from service.store.attempts import Report
from service.store.database import Database, DatabaseUnavailable
from service.store.events import UnknownStudy
from service.store.leases import Lease, NoPlace
from service.store.states import Action, RefusedTransition, State
from service.store.tables import Study
from workers.book import Attempt
from workers.desk import Desk
from workers.newcomers import Newcomers, Prepare
from workers.problems import sampler_failed, too_much_waste
from workers.rest import Rest
from workers.rounds import Rounds
from workers.study import SamplerFailed, StudyInHand

log = logging.getLogger(__name__)

TURN = 0.25
"""Seconds that a turn waits for something to happen."""
AHEAD = 2
"""Attempts of the whole group that wait for a place, at most. Each is sampled without the results of those that run,
and lost with the runner; the next is offered as soon as one is taken."""
QUARANTINE = 600.0
"""Seconds that no trial is sent to a node on which everything failed."""
LOOK = 0.9
"""Seconds between two looks at the studies' states, and between two writes of an attempt's progress."""


class Ledger(threading.Thread):
    """``hands``: the unfinished studies of the group; those that run get trials, and one that is paused may go on.
    ``prepare``: for studies that are queued meanwhile. ``linger``: seconds to wait for more when nothing runs any more.
    ``failure`` holds what ended it, if it did not end by ``finish``.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        desk: Desk,
        hands: dict[str, StudyInHand],
        max_live: Callable[[], int | None],
        prepare: Prepare,
        linger: float = 0.0,
    ):
        super().__init__(name="ledger", daemon=True)
        self._database, self._lease, self._desk, self._max_live = database, lease, desk, max_live
        self._studies = hands
        self.books = {study_id: hand.book for study_id, hand in hands.items()}
        """Of all of them, those that came later too."""
        self._newcomers = Newcomers(database, lease, desk, prepare)
        self._active: dict[str, StudyInHand] = {}
        self._rounds = Rounds(f"{lease.group_id}/{lease.epoch}")
        self._unsettled: deque[tuple[Attempt, TrialResult]] = deque()
        self._looked = 0.0
        self._rest = Rest(linger, time.monotonic)
        self._others_work = False
        """Whether another group has something to do; known while nothing is to be done here."""
        self._inhabited = True
        """Whether any study is left in the group."""
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
        self._newcomers.end(timeout)
        if self.failure is not None:
            raise self.failure
        if self.is_alive():
            raise DatabaseUnavailable(f"{len(self._unsettled)} result(s) could not be delivered.")

    def _settled(self) -> bool:
        self._unsettled += self._desk.ended()
        return not self._unsettled

    def _turn(self) -> None:
        self._heed_share()
        while not self._settled():
            attempt, result = self._unsettled[0]
            self._studies[attempt.study_id].settle(attempt, result)
            self._unsettled.popleft()
        self._welcome()
        self._keep_up()
        for study in list(self._active.values()):
            self._judge(study)
        self._see_whether_idle()
        if self._rest.over or not self._inhabited:
            self._desk.halt()
        self._ask_ahead()
        self._desk.settled()

    def _see_whether_idle(self) -> None:
        self._rest.look(bool(self._active or self._newcomers.busy), self._others_work)

    def _beside_newcomers(self, places: int | None) -> int | None:
        return places if places is None else max(0, places - self._newcomers.takes_place)

    def _heed_share(self) -> None:
        if self._max_live() == 0 and not self._desk.shut:
            self._look()  # perhaps nothing is left to run
            self._see_whether_idle()
        self._desk.limit = self._beside_newcomers(self._rest.places(self._max_live()))

    def _welcome(self) -> None:
        """Studies that were queued meanwhile and are ready now."""
        for study in self._newcomers.ready():
            self._studies[study.id] = self._active[study.id] = study
            self.books[study.id] = study.book

    def _keep_up(self) -> None:
        """With what runs, and with what was asked of the studies."""
        due = time.monotonic() - self._looked >= LOOK
        if due or self._desk.news:
            self._store_progress()
        if due:
            self._quarantine()
            self._look()
            self._looked = time.monotonic()

    def _meanwhile(self) -> None:
        """While a sampler thinks."""
        self._heed_share()
        try:
            self._keep_up()
        except DatabaseUnavailable as error:
            log.warning("%s", error)

    def _store_progress(self) -> None:
        if words := self._desk.words():
            with self._database.begin() as session:
                reports = (
                    Report(attempt.study_id, attempt.ordinal, attempt.attempt, word.progress, word.worker)
                    for attempt, word in words.items()
                )
                attempts.progress(session, self._lease, reports)

    def _quarantine(self) -> None:
        """Keep every trial of the cluster away from nodes on which everything fails."""
        for node_id, reason in self._desk.blamed.items():
            with self._database.begin() as session:
                leases.guard(session, self._lease)
                if not nodes.quarantine(session, node_id, QUARANTINE, reason):
                    continue  # no observer has seen it yet
                data = {"node": node_id, "reason": reason, "seconds": QUARANTINE}
                for study_id in sorted(self._active):  # all take their locks in this order
                    with suppress(UnknownStudy):  # deleted meanwhile
                        events.append(session, study_id, "node_quarantined", data)
            self._desk.put_away(node_id)

    def _look(self) -> None:
        """Whoever cancels, pauses, resumes, queues or deletes a study changes its row; the runner follows."""
        with self._database.begin() as session:
            rows = session.execute(select(Study.id, Study.state).where(Study.group_id == self._lease.group_id))
            states = dict(rows.tuples().all())
            if self._rest.idle:
                self._others_work = leases.others_at_work(session, self._lease.group_id)
            self._desk.quarantined = frozenset(nodes.quarantined(session))
        self._inhabited = bool(states)
        self._call_in(states)
        for study_id, study in self._studies.items():
            state = states.get(study_id, "deleted")
            if state == State.RUNNING:
                self._active[study_id] = study
            elif study_id in self._active:
                log.info("study %s is %s: its trials end", study_id, state, extra={"study_id": study_id})
                self._dismiss(study_id)

    def _call_in(self, states: dict[str, str]) -> None:
        """Studies that are to run and that this runner does not have in hand as they are now."""
        new = {
            study_id
            for study_id, state in states.items()
            if state in (State.QUEUED, State.PREPARING) or (state == State.RUNNING and study_id not in self._studies)
        }
        hands = [self._studies[study_id] for study_id in new if study_id in self._studies]
        if not new or self._newcomers.busy or any(hand.book.open for hand in hands) or self._desk.halted:
            return
        if self._max_live() == 0 or (self._max_live() is None and self._rest.idle):
            return  # who has no place prepares nothing
        for study_id in new:  # what it was before it was queued again is over
            self._studies.pop(study_id, None)
            self._dismiss(study_id)
        self._newcomers.begin(new)

    def _judge(self, study: StudyInHand) -> None:
        book = study.book
        if book.complete:
            self._conclude(study, Action.COMPLETE, {"trials": book.counted})
        elif book.hopeless:
            problem = too_much_waste(study.spec, book.wasted)
            self._conclude(study, Action.FAIL, {"reason": problem["detail"]}, problem)

    def _conclude(self, study: StudyInHand, action: Action, data: dict, problem: dict | None = None) -> None:
        try:
            with self._database.begin() as session:
                leases.guard(session, self._lease)
                if action is Action.COMPLETE and (waiting := enqueued.waiting(session, study.id)):
                    study.book.owed = len(waiting)  # retried trials have taken the places that it had
                    return
                changed = studies.change_state(session, study.id, action, data=data, problem=problem)
                following = repeating.as_asked(session, changed) if action is Action.COMPLETE else []
        except (RefusedTransition, UnknownStudy) as refusal:
            log.info("%s", refusal)  # somebody was faster: cancelled, for example
        else:
            log.info("study %s: %s", study.id, action, extra={"study_id": study.id})
            for one in following:
                log.info("study %s follows: %s", one.id, one.name, extra={"study_id": study.id})
        self._dismiss(study.id)

    def _dismiss(self, study_id: str) -> None:
        if study := self._studies.get(study_id):
            study.dismiss()
        self._active.pop(study_id, None)
        self._desk.withdraw(study_id)

    def _ask_ahead(self) -> None:
        """See to it that something waits for every free place, the studies taking turns.

        A place is free again only after its result was told: with one place the next suggestion always knows every
        result before it.
        """
        while self._free_places() > 0 and self._desk.waiting < AHEAD and not self._desk.halted:
            able = {study_id for study_id, study in self._active.items() if study.startable}
            if not able:
                break
            study = self._active[self._rounds.next(self._active, able)]
            try:
                self._desk.offer(study.next(self._meanwhile))
            except SamplerFailed as failure:  # that study's alone
                problem = sampler_failed(failure.fault)
                self._conclude(study, Action.FAIL, {"reason": problem["detail"]}, problem)
            except NoPlace as refusal:  # the share has just become smaller
                log.info("%s", refusal)
                break
            if study.id not in self._active:  # cancelled or paused while its sampler thought
                self._dismiss(study.id)

    def _free_places(self) -> float:
        limit = self._beside_newcomers(self._rest.trials(self._max_live()))
        if limit is None:
            return float("inf")
        return limit - self._open()

    def _open(self) -> int:
        return sum(len(study.book.open) for study in self._studies.values())
