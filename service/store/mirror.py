"""The search of a study, in memory: what to try next.

A mirror has one trial per ordinal, numbered like it, whatever number of attempts the ordinal took. So it is the same
before and after any process died, and with it what is sampled next. What is kept in Optuna's tables for other programs
to read is in ``optuna_rows``.
"""

from dataclasses import dataclass

from mudman.specs import StudySpec
from service.store.attempts import Ending
from service.store.sampling import sampler_of
from service.store.sampling.rows import distribution

__all__ = ["Mirror", "Suggestion", "distribution"]


@dataclass(frozen=True)
class Suggestion:
    ordinal: int
    hyperparameters: dict[str, float]
    open: tuple[int, ...]
    """Ordinals asked before and not told yet: with the told ones and the seed they determine the suggestion."""


class Mirror:
    """The study in memory. Restore it by ordinal, then ask and tell."""

    def __init__(self, spec: StudySpec):
        self._space = spec.search_space()
        self._sampler = sampler_of(spec)
        self._asked = 0
        self._open: set[int] = set()

    @property
    def thinks_long(self) -> bool:
        """Whether ``ask`` may take seconds."""
        return self._sampler.thinks_long

    @property
    def following(self) -> int:
        """Ordinal of the next trial."""
        return self._asked

    def ask(self, fixed: dict[str, float] | None = None) -> Suggestion:
        """Suggest the next ordinal, and begin it."""
        suggestion = self.suggest(fixed)
        self.begin(suggestion.ordinal, suggestion.hyperparameters)
        return suggestion

    def suggest(self, fixed: dict[str, float] | None = None) -> Suggestion:
        """Sample the next ordinal, which is not begun by that. ``fixed``: values that somebody chose, by dotted path;
        the sampler has the rest."""
        opened, ordinal, chosen = tuple(sorted(self._open)), self._asked, fixed or {}
        if not self._space.keys() <= chosen.keys():
            chosen = self._sampler.suggest(ordinal) | chosen
        return Suggestion(ordinal, chosen, opened)

    def restore(self, ordinal: int, hyperparameters: dict[str, float], ending: Ending | None) -> None:
        """A trial asked earlier, in order of ordinals; without an end it is still open."""
        self.begin(ordinal, hyperparameters)
        if ending is not None:
            self.tell(ordinal, ending)

    def tell(self, ordinal: int, ending: Ending) -> None:
        """The trial has ended for good."""
        self._sampler.told(ordinal, ending)
        self._open.discard(ordinal)

    def begin(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        """The next ordinal is tried with these values.

        The end of a log range may be sampled as exp(log(end)), a rounding outside: it is learned as the end.
        """
        if ordinal != self._asked:
            raise ValueError(f"ordinals must be contiguous: expected {self._asked}, got {ordinal}")
        inside = {name: range_.nearest(hyperparameters[name]) for name, range_ in self._space.items()}
        self._sampler.asked(ordinal, inside)
        self._asked += 1
        self._open.add(ordinal)
