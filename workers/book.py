"""What a runner knows of one study: pure bookkeeping over attempts, without database, Ray or clock."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store.attempts import Record

ATTEMPTS = 3
"""Attempts of one ordinal that may be lost before it is given up."""
WASTE = 20
"""Ordinals that may end without counting, at least; half the budget where that is more."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at one trial of one study."""

    study_id: str
    ordinal: int
    attempt: int
    hyperparameters: dict[str, float] = field(hash=False)
    opened: tuple[int, ...] | None = None
    """Of a first attempt: the ordinals that were open when it was sampled."""

    def again(self) -> "Attempt":
        return replace(self, attempt=self.attempt + 1, opened=None)

    def __str__(self) -> str:
        return f"{self.study_id} trial {self.ordinal} attempt {self.attempt}"


@dataclass
class Book:
    """Where the study stands. ``open`` are attempts that were started and have not been told yet."""

    study_id: str
    spec: StudySpec
    counted: int = 0
    wasted: int = 0
    """Ordinals that ended for good without counting, since the study was queued last."""
    again: deque[Attempt] = field(default_factory=deque)
    """To be started: next attempts of ordinals that were asked already."""
    open: dict[int, Attempt] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, study_id: str, spec: StudySpec, history: Iterable[Record]) -> "Book":
        """From the rows of the study, by ordinal and attempt. A row without an end is an open attempt."""
        book = cls(study_id, spec)
        for row in history:
            # A later attempt of an ordinal stands for what was to be started again.
            book.again = deque(attempt for attempt in book.again if attempt.ordinal != row.ordinal)
            attempt = Attempt(study_id, row.ordinal, row.attempt, row.hyperparameters)
            book.start(attempt)
            if row.ending is not None:
                book.end(attempt, row.ending.outcome, earlier=row.earlier)
        return book

    def start(self, attempt: Attempt) -> None:
        self.open[attempt.ordinal] = attempt

    def end(self, attempt: Attempt, outcome: Outcome, *, earlier: bool = False) -> bool:
        """Book the end of an attempt; whether its ordinal has ended with it for good.

        ``earlier``: of a run that failed or was cancelled before the study was queued again; its waste is forgiven.
        """
        del self.open[attempt.ordinal]
        if outcome.counts:
            self.counted += 1
            return True
        if outcome is Outcome.LOST:
            self.losses[attempt.ordinal] = self.losses.get(attempt.ordinal, 0) + 1
        if outcome.runs_again and self.losses.get(attempt.ordinal, 0) < ATTEMPTS:
            self.again.append(attempt.again())
            return False
        self.wasted += not earlier
        return True

    def may_ask(self) -> bool:
        """Whether a new ordinal is needed: each one that is open may still count."""
        return self.counted + len(self.open) + len(self.again) < self.spec.budget.trials

    @property
    def complete(self) -> bool:
        return self.counted >= self.spec.budget.trials

    @property
    def hopeless(self) -> bool:
        """More ended without counting than a study may waste."""
        return self.wasted > max(WASTE, self.spec.budget.trials / 2)
