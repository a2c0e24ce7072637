"""Where Tune's thread and the ledger's meet: plain memory under one lock, never waiting for a database."""

import threading
from collections import deque
from collections.abc import Callable

from mudman.results import Outcome, TrialResult
from workers.book import Attempt
from workers.orders import Word

HANDOVER = 0.25
"""Seconds that Tune waits for the ledger when a trial has ended, at most: usually the next attempt is there in a few
hundredths, and the place gets it without a detour."""


class Desk:
    """The ledger offers attempts; places take them and hand in what becomes of them. Each place has one at a time."""

    def __init__(self):
        self._changed = threading.Condition()
        self._ready: deque[Attempt] = deque()
        self._live: dict[str, Attempt] = {}
        self._words: dict[Attempt, Word] = {}
        self._begun: set[Attempt] = set()
        self._ended: list[tuple[Attempt, TrialResult]] = []
        self._blamed: dict[str, str] = {}
        self._limit: int | None = None
        self._settling = False
        self._halted = False
        self._news = False
        self.quarantined: frozenset[str] = frozenset()
        """Nodes that no trial is to be sent to, as the ledger read it last."""

    # ---------------------------------------------------------------------------------------------- Tune's thread

    def take(
        self, place: str, suits: Callable[[Attempt], bool] = lambda attempt: True, patience: float = 0.0
    ) -> Attempt | None:
        """The next attempt for a place that has none, one that ``suits`` it. While the ledger stores what has
        ended, and so is about to offer more, it is waited for, ``patience`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._next(suits) or not (self._ended or self._settling), patience)
            attempt = self._next(suits)
            if attempt is not None:
                self._ready.remove(attempt)
                self._live[place] = attempt
            return attempt

    def first_waiting(self, patience: float) -> Attempt | None:
        """What has waited longest for a place, if there is any within ``patience`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._halted or self.shut, patience)
            return self._ready[0] if self._ready else None

    def hear(self, place: str, word: Word) -> None:
        """What a place says of its attempt; nothing if that has ended."""
        with self._changed:
            attempt = self._live.get(place)
            if attempt is None:
                return
            if word.result is not None:
                self._end(place, word.result)
                return
            self._words[attempt] = word
            if attempt not in self._begun:
                self._begun.add(attempt)
                self._news = True
                self._changed.notify_all()

    def holds(self, place: str) -> Attempt | None:
        """The attempt that runs there, unless it has ended."""
        return self._live.get(place)

    def lose(self, place: str, result: TrialResult) -> Attempt | None:
        """The attempt there ends without having handed in a result of its own; which one it was, if there was any."""
        with self._changed:
            attempt = self._live.get(place)
            if attempt:
                self._end(place, result)
            return attempt

    def lose_waiting(self, result: TrialResult) -> Attempt | None:
        """What has waited longest ends without having had a place; which one it was, if any waited."""
        with self._changed:
            if not self._ready:
                return None
            attempt = self._ready.popleft()
            self._ended.append((attempt, result))
            self._changed.notify_all()
            return attempt

    def blame(self, node_id: str, reason: str) -> None:
        """Everything fails on the node: no trial is to be sent there for a while."""
        with self._changed:
            self._blamed[node_id] = reason
            self._changed.notify_all()

    def clear(self) -> None:
        """Tune has ended and may be started anew: there is no place, and what still lived is begun again."""
        with self._changed:
            for place in list(self._live):
                self._end(place, TrialResult(outcome=Outcome.CANCELLED))

    @property
    def halted(self) -> bool:
        """Whether every trial is to end, and no other to begin."""
        return self._halted

    def allows(self, places: int) -> bool:
        """Whether the group may have so many places."""
        return not self._halted and (self._limit is None or places <= self._limit)

    @property
    def shut(self) -> bool:
        """Whether the group may have no place at all."""
        return not self.allows(1)

    def wait_for_place(self, timeout: float) -> bool:
        """For a share in the cluster, ``timeout`` seconds at most; whether there is one, or all is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._halted or not self.shut, timeout)

    def _next(self, suits: Callable[[Attempt], bool]) -> Attempt | None:
        if not self.allows(len(self._live) + 1):
            return None
        return next((attempt for attempt in self._ready if suits(attempt)), None)

    def _end(self, place: str, result: TrialResult) -> None:
        attempt = self._live.pop(place)
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

    def waits(self, of: Callable[[str], bool]) -> bool:
        """Whether any attempt that nobody has taken is of such a study."""
        with self._changed:
            return any(of(attempt.study_id) for attempt in self._ready)

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
        """The study's trials are over from now on, whatever their processes still do until they obey."""
        with self._changed:
            for place, attempt in list(self._live.items()):
                if attempt.study_id == study_id:
                    self._end(place, TrialResult(outcome=Outcome.CANCELLED))
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
