"""Where Tune's thread and the ledger's meet: plain memory under one lock, never waiting for a database."""

import threading
from collections import deque

from mudman.results import Outcome, TrialResult
from workers.book import Attempt
from workers.orders import Word


class Desk:
    """The ledger offers attempts; Tune takes them and hands in what the actors say."""

    def __init__(self):
        self._changed = threading.Condition()
        self._ready: deque[Attempt] = deque()
        self._live: dict[str, Attempt] = {}
        self._words: dict[Attempt, Word] = {}
        self._begun: set[Attempt] = set()
        self._ended: list[tuple[Attempt, TrialResult]] = []
        self._halted = False
        self._news = False

    # ---------------------------------------------------------------------------------------------- Tune's thread

    def take(self, trial_id: str, patience: float) -> Attempt | None:
        """The next attempt to run. While none lives there is nothing else to do, so wait for it a little."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._live or self._halted, timeout=patience)
            if not self._ready or self._halted:
                return None
            attempt = self._live[trial_id] = self._ready.popleft()
            return attempt

    def hear(self, trial_id: str, word: Word) -> bool:
        """What an actor says; answers whether its trial is to end here."""
        with self._changed:
            attempt = self._live.get(trial_id)
            if attempt is None:
                return True  # withdrawn; or finished, for Tune repeats a trial's last result
            if word.result is not None:
                self._end(trial_id, TrialResult.model_validate(word.result))
                return True
            self._words[attempt] = word
            if attempt not in self._begun:
                self._begun.add(attempt)
                self._news = True
                self._changed.notify_all()
            return False

    def vanish(self, trial_id: str) -> None:
        """The trial is gone without a result: its process died."""
        with self._changed:
            if trial_id in self._live:
                self._end(trial_id, TrialResult(outcome=Outcome.LOST))

    def clear(self) -> None:
        """Tune has ended and may be started anew: nothing lives."""
        with self._changed:
            for trial_id in list(self._live):
                self.vanish(trial_id)

    @property
    def halted(self) -> bool:
        """Whether every trial is to end, and no other to begin."""
        return self._halted

    def _end(self, trial_id: str, result: TrialResult) -> None:
        attempt = self._live.pop(trial_id)
        self._words.pop(attempt, None)
        self._begun.discard(attempt)
        self._ended.append((attempt, result))
        self._changed.notify_all()

    # --------------------------------------------------------------------------------------------- ledger's thread

    def offer(self, attempt: Attempt) -> None:
        with self._changed:
            self._ready.append(attempt)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Attempts that were offered and that nobody has taken yet."""
        return len(self._ready)

    def wait(self, timeout: float) -> None:
        """Until an attempt has begun or ended, for ``timeout`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._news, timeout)

    def ended(self) -> list[tuple[Attempt, TrialResult]]:
        """Attempts that ended since the last call."""
        with self._changed:
            ended, self._ended = self._ended, []
            return ended

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
