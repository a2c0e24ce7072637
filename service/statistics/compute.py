"""What a study has spent, and what it had found when it had spent less: methods are compared at equal compute."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Attempt:
    """A finished attempt at a trial, whatever became of it."""

    ordinal: int
    attempt: int
    outcome: str
    value: float | None = None
    """Objective, of a valid trial."""
    seconds: float = 0.0
    """As the trial says, or where it says nothing, from start to end; none of what no worker ever began."""
    passes_booked: int = 0
    passes_made: int = 0
    passes_skipped: int = 0
    """Booked passes that the pruner left out."""
    hyperparameters: Mapping[str, float] | None = None
    """Where they were asked for."""


@dataclass(frozen=True)
class Tally:
    """What a study has found and spent so far."""

    values: list[float] = field(default_factory=list)
    """Objective of every valid trial, by ordinal; or of those alone that a table needs: the last, and the best."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Finished attempts by outcome."""
    seconds: float = 0.0
    passes_booked: int = 0
    passes_made: int = 0
    passes_skipped: int = 0

    def over(self, values: list[float]) -> "Tally":
        """The same with these values."""
        return replace(self, values=values)


def tally(attempts: Sequence[Attempt]) -> Tally:
    """``attempts`` by ordinal and attempt."""
    return Tally(
        values=[one.value for one in attempts if one.outcome == "valid" and one.value is not None],
        outcomes=dict(Counter(one.outcome for one in attempts)),
        seconds=sum(one.seconds for one in attempts),
        passes_booked=sum(one.passes_booked for one in attempts),
        passes_made=sum(one.passes_made for one in attempts),
        passes_skipped=sum(one.passes_skipped for one in attempts),
    )


def by_outcome(attempts: Iterable[Attempt]) -> dict[str, Tally]:
    parts: dict[str, list[Attempt]] = {}
    for one in attempts:
        parts.setdefault(one.outcome, []).append(one)
    return {outcome: tally(part) for outcome, part in parts.items()}


def total(parts: Mapping[str, Tally]) -> Tally:
    """Of tallies by outcome, of which one alone has values."""
    return Tally(
        values=parts["valid"].values if "valid" in parts else [],
        outcomes={outcome: part.outcomes[outcome] for outcome, part in parts.items()},
        seconds=sum(part.seconds for part in parts.values()),
        passes_booked=sum(part.passes_booked for part in parts.values()),
        passes_made=sum(part.passes_made for part in parts.values()),
        passes_skipped=sum(part.passes_skipped for part in parts.values()),
    )


def within(attempts: Sequence[Attempt], budget: float, cost: Callable[[Attempt], float]) -> list[Attempt]:
    """The first attempts, by ordinal, that together cost no more than ``budget``."""
    spent, kept = 0.0, []
    for one in attempts:
        spent += cost(one)
        if spent > budget * (1 + 1e-9):
            break
        kept.append(one)
    return kept


def best_first(attempts: Iterable[Attempt], many: int, *, minimise: bool = False) -> list[Attempt]:
    """The best valid ones; of equal ones, the lowest ordinal first."""
    valid = [one for one in attempts if one.outcome == "valid" and one.value is not None]
    return sorted(valid, key=lambda one: (one.value if minimise else -one.value, one.ordinal))[:many]
