"""The search of a study, in memory: what to try next.

A mirror has one trial per ordinal, numbered like it, whatever number of attempts the ordinal took. So it is the same
before and after any process died, and with it what is sampled next. What is kept in Optuna's tables for other programs
to read is in ``optuna_rows``.
"""

import hashlib
import json
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from mudman.specs import Range, StudySpec
from service.store.attempts import Ending
from service.store.optuna_rows import CONSTRAINT, STATES, violation_of


@dataclass(frozen=True)
class Suggestion:
    ordinal: int
    hyperparameters: dict[str, float]
    open: tuple[int, ...]
    """Ordinals asked before and not told yet: with the told ones and the seed they determine the suggestion."""


class Mirror:
    """The study in memory. Restore it by ordinal, then ask and tell."""

    def __init__(self, spec: StudySpec):
        self._spec = spec
        self._space = {name: distribution(range_) for name, range_ in spec.search_space().items()}
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            study_name="mirror", storage=self._storage, direction=spec.objective.direction, sampler=RandomSampler()
        )
        self._asked = 0
        self._open: set[int] = set()

    def ask(self) -> Suggestion:
        """Sample the next ordinal."""
        opened, ordinal = tuple(sorted(self._open)), self._asked
        self._study.sampler = _sampler(self._spec, ordinal)
        trial = self._study.ask(self._space)
        self._added(ordinal)
        return Suggestion(ordinal, trial.params, opened)

    def restore(self, ordinal: int, hyperparameters: dict[str, float], ending: Ending | None) -> None:
        """A trial asked earlier, in order of ordinals; without an end it is still open."""
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=hyperparameters, distributions=self._space))
        self._added(ordinal)
        if ending is not None:
            self.tell(ordinal, ending)

    def tell(self, ordinal: int, ending: Ending) -> None:
        """The trial has ended for good."""
        study_id = self._storage.get_study_id_from_name("mirror")
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, ordinal)
        _tell(self._study, trial_id, ending)
        self._open.discard(ordinal)

    def _added(self, ordinal: int) -> None:
        if ordinal != self._asked:
            raise ValueError(f"ordinals must be contiguous: expected {self._asked}, got {ordinal}")
        self._asked += 1
        self._open.add(ordinal)


def _tell(study: optuna.Study, trial_id: int, ending: Ending) -> None:
    trial, state = optuna.Trial(study, trial_id), TrialState[STATES[ending.outcome]]
    violation = violation_of(ending.outcome, ending.violation)
    if violation is not None:
        trial.set_constraint(CONSTRAINT, violation)
    study.tell(trial, ending.value if state is TrialState.COMPLETE else None, state=state)


def distribution(range_: Range) -> BaseDistribution:
    if range_.int:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)


def _sampler(spec: StudySpec, ordinal: int) -> BaseSampler:
    """A fresh sampler per ask: one seed for the whole search would replay its random start after every restart."""
    seed = int.from_bytes(hashlib.sha256(json.dumps([spec.sampler.seed, ordinal]).encode()).digest()[:4])
    if spec.sampler.type == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=spec.sampler.startup_trials)
