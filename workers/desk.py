"""Where Tune's thread and the ledger's meet: plain memory under one lock, never waiting for a database."""

import threading
import time
from collections import deque
from collections.abc import Collection

from mudman.results import Outcome, TrialResult
from workers.book import Attempt
from workers.orders import Word

HANDOVER = 0.25
"""Seconds that Tune waits for the ledger when a trial has ended, at most: usually the next one is there in a few
hundredths, and the process that became free gets it without a detour."""
START = 8.0
"""Seconds that a new process may take to start."""


class Desk:
    """The ledger offers attempts; Tune takes them and hands in what the actors say."""

    def __init__(self):
        self._changed = threading.Condition()
        self._ready: deque[Attempt] = deque()
        self._live: dict[str, Attempt] = {}
        self._words: dict[Attempt, Word] = {}
        self._begun: set[Attempt] = set()
        self._ended: list[tuple[Attempt, TrialResult]] = []
        self._blamed: dict[str, str] = {}
        self._limit: int | None = None
        self._taken: dict[str, float] = {}
        """When each living attempt was taken (monotonic seconds)."""
        self._settling = False
        self._no_place_before = 0.0
        self._halted = False
        self._news = False
        self.quarantined: frozenset[str] = frozenset()
        """Nodes that no trial is to be sent to, as the ledger read it last."""

    # ---------------------------------------------------------------------------------------------- Tune's thread

    def take(self, trial_id: str, patience: float) -> Attempt | None:
        """The next attempt to run. While none lives there is nothing else to do, so wait for it a little."""
        with self._changed:
            self._changed.wait_for(lambda: self._takeable() or self._live or self._halted, timeout=patience)
            if not self._takeable() or self._halted:
                return None
            attempt = self._live[trial_id] = self._ready.popleft()
            self._taken[trial_id] = time.monotonic()
            return attempt

    def hear(self, trial_id: str, word: Word) -> bool:
        """What an actor says; answers whether its trial is to end here."""
        result = TrialResult.model_validate(word.result) if word.result is not None else None
        with self._changed:
            attempt = self._live.get(trial_id)
            if attempt is None:
                return True  # withdrawn; or finished, for Tune repeats a trial's last result
            if result is not None:
                self._end(trial_id, result)
                self._changed.wait_for(lambda: self._ready or not (self._ended or self._settling), HANDOVER)
                return True
            self._words[attempt] = word
            if attempt not in self._begun:
                self._begun.add(attempt)
                self._news = True
                self._changed.notify_all()
            return False

    def place_is_coming(self, before: float, placed: Collection[str] = ()) -> bool:
        """Whether a process is being started for an attempt that was taken before that moment (monotonic seconds).

        Tune would give that attempt to a process that becomes free meanwhile and throw the new one away, again and
        again where trials are shorter than a process takes to start. So the free one is kept from Tune for so long;
        but not where a new one did not come lately: there is no place for it. What was taken after the free one had
        become free is for the free one, and what has a process already, of the trials ``placed``, waits for none.
        """
        with self._changed:
            now = time.monotonic()
            # Of a copy: a signal's handler on this very thread may end trials meanwhile, for the lock lets it in.
            live = list(self._live.items())
            unplaced = [name for name, attempt in live if attempt not in self._begun and name not in placed]
            starting = [moment for name in unplaced if (moment := self._taken.get(name, now)) <= before]
            if self._halted or not starting or now < self._no_place_before:
                return False
            if now - min(starting) > START:
                self._no_place_before = now + 10 * START
                return False
            return True

    def holds(self, trial_id: str) -> Attempt | None:
        """The attempt that this trial of Tune's is, unless it has ended."""
        return self._live.get(trial_id)

    def lose(self, trial_id: str, result: TrialResult) -> Attempt | None:
        """The trial ends without having handed in a result of its own; the attempt that it was, if it still was one."""
        with self._changed:
            attempt = self._live.get(trial_id)
            if attempt:
                self._end(trial_id, result)
            return attempt

    def blame(self, node_id: str, reason: str) -> None:
        """Everything fails on the node: no trial is to be sent there for a while."""
        with self._changed:
            self._blamed[node_id] = reason
            self._changed.notify_all()

    def clear(self) -> None:
        """Tune has ended and may be started anew: nothing lives, and what still did is begun again."""
        with self._changed:
            for trial_id in list(self._live):
                self._end(trial_id, TrialResult(outcome=Outcome.CANCELLED))

    @property
    def halted(self) -> bool:
        """Whether every trial is to end, and no other to begin."""
        return self._halted

    def _takeable(self) -> bool:
        return bool(self._ready) and (self._limit is None or len(self._live) < self._limit)

    def _end(self, trial_id: str, result: TrialResult) -> None:
        attempt = self._live.pop(trial_id)
        del self._taken[trial_id]
        self._words.pop(attempt, None)
        self._begun.discard(attempt)
        self._ended.append((attempt, result))
        self._changed.notify_all()

    # --------------------------------------------------------------------------------------------- ledger's thread

    def offer(self, attempt: Attempt) -> None:
        with self._changed:
            if self._halted:
                self._ended.append((attempt, TrialResult(outcome=Outcome.CANCELLED)))
            else:
                self._ready.append(attempt)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Attempts that were offered and that nobody has taken yet."""
        return len(self._ready)

    @property
    def limit(self) -> int | None:
        """Attempts that may live at once: the group's share. None: as many as there are places."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        """What was offered beyond it and nobody has taken is given back, to be begun again."""
        with self._changed:
            self._limit = limit
            while limit is not None and self._ready and len(self._live) + len(self._ready) > limit:
                self._ended.append((self._ready.pop(), TrialResult(outcome=Outcome.CANCELLED)))
            self._changed.notify_all()

    @property
    def sated(self) -> bool:
        """Whether as many attempts live as may: a process without one has nothing to wait for."""
        return self._limit is not None and len(self._live) >= self._limit

    def wait_for_place(self, timeout: float) -> bool:
        """For a share in the cluster, ``timeout`` seconds at most; whether there is one, or all is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._halted or not self.sated, timeout)

    @property
    def blamed(self) -> dict[str, str]:
        """Nodes that were blamed, with the reasons, until they are ``put_away``."""
        with self._changed:
            return dict(self._blamed)

    def put_away(self, node_id: str) -> None:
        """Nothing is left to do about a blamed node."""
        with self._changed:
            self._blamed.pop(node_id, None)

    def wait(self, timeout: float) -> None:
        """Until an attempt has begun or ended, for ``timeout`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._news, timeout)

    def ended(self) -> list[tuple[Attempt, TrialResult]]:
        """Attempts that ended since the last call."""
        with self._changed:
            ended, self._ended = self._ended, []
            self._settling = self._settling or bool(ended)
            return ended

    def settled(self) -> None:
        """What had ended is stored, and what comes next lies ready."""
        with self._changed:
            self._settling = False
            self._changed.notify_all()

    @property
    def news(self) -> bool:
        """Whether the first word of an attempt waits: it says where the attempt runs."""
        return self._news

    def words(self) -> dict[Attempt, Word]:
        """The latest word of each running attempt that spoke since the last call."""
        with self._changed:
            self._news = False
            words, self._words = self._words, {}
            return words

    def withdraw(self, study_id: str) -> None:
        """The study's trials are over from now on, whatever their actors still do until Tune has stopped them."""
        with self._changed:
            for trial_id, attempt in list(self._live.items()):
                if attempt.study_id == study_id:
                    self._end(trial_id, TrialResult(outcome=Outcome.CANCELLED))
            for attempt in [attempt for attempt in self._ready if attempt.study_id == study_id]:
                self._ready.remove(attempt)
                self._ended.append((attempt, TrialResult(outcome=Outcome.CANCELLED)))
            self._changed.notify_all()

    def halt(self) -> None:
        """Every trial is over from now on, and no other begins."""
        with self._changed:
            self._halted = True
            for study_id in {attempt.study_id for attempt in [*self._live.values(), *self._ready]}:
                self.withdraw(study_id)
            self._changed.notify_all()
