"""What every sampler is: asked with an ordinal, told how trials ended."""

import hashlib
import json
from abc import ABC, abstractmethod

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store.attempts import Ending
from service.store.optuna_rows import STATES, violation_of


class Sampler(ABC):
    """Ordinals are asked for in order; their ends may come in any order, and again where a trial was retried."""

    thinks_long = False
    """Whether a suggestion may take seconds."""

    def __init__(self, spec: StudySpec):
        self.spec = spec
        self.space = spec.search_space()

    @abstractmethod
    def suggest(self, ordinal: int) -> dict[str, float]:
        """A value for every searched range. Changes nothing: what is tried in the end is said by ``asked``."""

    @abstractmethod
    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        """The ordinal is tried with these values, each within its range."""

    @abstractmethod
    def told(self, ordinal: int, ending: Ending) -> None:
        """The trial has ended for good."""

    def seed(self, *parts: int | str) -> int:
        """Of 32 bits, from the study's seed and ``parts``. One seed for the whole search would start over with the
        same numbers after every restart."""
        digest = hashlib.sha256(json.dumps([self.spec.sampler.seed, *parts]).encode()).digest()
        return int.from_bytes(digest[:4])

    def rank(self, ending: Ending) -> tuple[float, ...] | None:
        """Sorts trials, the best first; None where there is nothing to learn from the end.

        Valid trials by value (0); then pruned ones, those that came further first, then by their value there (1); then
        those that violate the constraint, by how far (2).
        """
        if STATES[ending.outcome] == "FAIL":
            return None
        violation = violation_of(ending.outcome, ending.violation) or 0.0
        if violation > 0:
            return (2, violation)
        sign = -1.0 if self.spec.objective.direction == "maximize" else 1.0
        if ending.outcome is Outcome.PRUNED:
            step, value = max(ending.steps.items(), default=(-1, 0.0))
            return (1, -step, sign * value)
        return (0, sign * ending.value)
