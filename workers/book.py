"""What a runner knows of one study: pure bookkeeping over attempts, without database, Ray or clock."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store.attempts import ATTEMPTS, Record

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
    enqueued: int | None = None
    """Of a first attempt: sequence of the enqueued trial that it takes."""
    cuts: dict[int, float] = field(default_factory=dict, hash=False)
    """Of the study's pruner, by passes of the attack."""

    def again(self) -> "Attempt":
        return replace(self, attempt=self.attempt + 1, opened=None, enqueued=None)

    @property
    def log_fields(self) -> dict[str, str | int]:
        return {"study_id": self.study_id, "ordinal": self.ordinal, "attempt": self.attempt}

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
    open: dict[int, Attempt] = field(default_factory=dict)
    losses: dict[int, int] = field(default_factory=dict)
    owed: int = 0
    """Enqueued trials that wait although the budget is spent: they were accepted, and may count beyond it."""
    _again: dict[int, Attempt] = field(default_factory=dict)

    @classmethod
    def of(cls, study_id: str, spec: StudySpec, history: Iterable[Record]) -> "Book":
        """From the rows of the study, by ordinal and attempt. A row without an end is an open attempt."""
        book = cls(study_id, spec)
        for row in history:
            attempt = Attempt(study_id, row.ordinal, row.attempt, row.hyperparameters)
            book.start(attempt)
            if row.ending is not None:
                book.end(attempt, row.ending.outcome, earlier=row.earlier)
            if row.run_again:
                book.retry(attempt)
        return book

    @property
    def again(self) -> Collection[Attempt]:
        """To be started, in this order: next attempts of ordinals that were asked already."""
        return self._again.values()

    def start(self, attempt: Attempt) -> None:
        self.open[attempt.ordinal] = attempt
        self._again.pop(attempt.ordinal, None)
        self.owed -= bool(self.owed and attempt.enqueued is not None)

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
            self._again[attempt.ordinal] = attempt.again()
            return False
        self.wasted += not earlier
        return True

    def retry(self, attempt: Attempt) -> None:
        """Somebody asked for another attempt at what had ended for good; how often it was lost is forgiven."""
        self.losses.pop(attempt.ordinal, None)
        self._again.pop(attempt.ordinal, None)  # what waited for the ordinal gives way, and its turn with it
        self._again[attempt.ordinal] = attempt.again()

    def may_ask(self) -> bool:
        """Whether a new ordinal is needed: each one that is open may still count."""
        return self.owed > 0 or self.counted + len(self.open) + len(self.again) < self.spec.budget.trials

    @property
    def complete(self) -> bool:
        """The budget is met, and nobody waits for a retry: trials that were retried may count beyond the budget."""
        return self.counted >= self.spec.budget.trials and not (self.again or self.open or self.owed)

    @property
    def hopeless(self) -> bool:
        """More ended without counting than a study may waste. Trials that are run again had counted before: of these
        each may be replaced once."""
        repeats = self.spec.repeats
        return self.wasted > (repeats.trials if repeats else max(WASTE, self.spec.budget.trials / 2))
