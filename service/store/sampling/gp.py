"""Optuna's Gaussian process. It needs scipy and torch and imports them when it first learns: only runners have both."""

import math

from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, TrialState

from mudman.results import Outcome
from mudman.specs import StudySpec
from service.store.attempts import Ending
from service.store.optuna_rows import violation_of
from service.store.sampling.base import Sampler
from service.store.sampling.rows import Rows, row


class GaussianProcess(Sampler):
    """Expected improvement times the probability that the constraint holds, one process for each.

    Optuna's fits both to completed trials alone and would never learn where the constraint is violated, for such
    trials are stopped. So a trial without a value (over its budget, diverged, pruned) is shown with the lowest value
    known, and violations are squashed, v to sign(v) log(1 + |v|): a diverged trial must not flatten all others.
    """

    thinks_long = True

    def __init__(self, spec: StudySpec):
        super().__init__(spec)
        self._rows = Rows(self.space, spec.objective.direction)
        self._asked: list[dict[str, float]] = []
        self._ended: dict[int, Ending] = {}

    def suggest(self, ordinal: int) -> dict[str, float]:
        valid = [ending.value for ending in self._ended.values() if ending.outcome is Outcome.VALID]
        lowest = min if self.spec.objective.direction == "maximize" else max
        worst = lowest(valid, default=0.0)
        self._rows.rows = [self._row(each, worst) for each in range(len(self._asked))]
        sampler = GPSampler(seed=self.seed(ordinal), n_startup_trials=self.spec.sampler.startup_trials)
        return self._rows.sample(sampler, ordinal)

    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        self._asked.append(hyperparameters)

    def told(self, ordinal: int, ending: Ending) -> None:
        self._ended[ordinal] = ending

    def _row(self, ordinal: int, worst: float) -> FrozenTrial:
        hyperparameters, ending, space = self._asked[ordinal], self._ended.get(ordinal), self._rows.distributions
        if ending is None:
            return row(ordinal, hyperparameters, space)
        if self.rank(ending) is None:
            return row(ordinal, hyperparameters, space, TrialState.FAIL)
        violation = violation_of(ending.outcome, ending.violation)
        return row(
            ordinal,
            hyperparameters,
            space,
            TrialState.COMPLETE,
            value=worst if ending.value is None else ending.value,
            violation=_squashed(-1.0 if violation is None else violation),
        )


def _squashed(violation: float) -> float:
    return math.copysign(math.log1p(abs(violation)), violation)
