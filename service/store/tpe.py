"""Optuna's TPE over arrays that grow with the study.

The estimators, their sampling and the split are Optuna's (arXiv 2304.11127); what is ours is the bookkeeping: Optuna
walks every trial of the study in Python for each suggestion, three times over. Here a suggestion after 1,000 trials
costs what theirs does after 100. Suggestions are equal to those of ``optuna.samplers.TPESampler`` to the last bit; its
test compares them.
"""

from collections.abc import Mapping

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma

COMPLETE, PRUNED, INFEASIBLE, RUNNING, LEFT_OUT = range(5)
"""How a trial is ranked: in this order, then by its scores. A running one counts as bad (the constant liar), one that
is left out does not count."""


class Tpe:
    """Multivariate, with the constant liar; one objective, lower scores are better."""

    def __init__(self, space: Mapping[str, BaseDistribution]):
        self._space = dict(sorted(space.items()))  # the order in which Optuna draws
        self._points = np.empty((16, len(self._space)))
        self._rank = np.full(16, LEFT_OUT)
        self._scores = np.zeros((16, 2))
        self._count = 0
        own = TPESampler()
        self._parameters, self._candidates = own._parzen_estimator_parameters, own._n_ei_candidates

    def add(self, point: Mapping[str, float]) -> int:
        """A trial that runs; answers its number."""
        if self._count == len(self._rank):
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
            self._rank = np.concatenate([self._rank, np.full_like(self._rank, LEFT_OUT)])
            self._scores = np.concatenate([self._scores, np.zeros_like(self._scores)])
        number, self._count = self._count, self._count + 1
        self._points[number] = [d.to_internal_repr(point[name]) for name, d in self._space.items()]
        self._rank[number] = RUNNING
        return number

    def tell(self, number: int, rank: int, score: float = 0.0, tie: float = 0.0) -> None:
        """Lower scores are better, and where they are equal, lower ties."""
        self._rank[number], self._scores[number] = rank, (score, tie)

    @property
    def finished(self) -> int:
        """Trials that it learns from."""
        return int((self._rank[: self._count] <= INFEASIBLE).sum())

    def suggest(self, seed: int) -> dict[str, float]:
        """The next point."""
        rank, (score, tie) = self._rank[: self._count], self._scores[: self._count].T
        order = np.lexsort((np.arange(self._count), tie, score, rank))
        finished = int((rank <= INFEASIBLE).sum())
        counted = int((rank <= RUNNING).sum())
        best = min(default_gamma(finished), finished)
        good, bad = (self._estimator(np.sort(part)) for part in (order[:best], order[best:counted]))
        samples = good.sample(np.random.RandomState(seed), self._candidates)
        chosen = int(np.argmax(good.log_pdf(samples) - bad.log_pdf(samples)))
        return {name: d.to_external_repr(samples[name][chosen].item()) for name, d in self._space.items()}

    def _estimator(self, numbers: np.ndarray) -> _ParzenEstimator:
        points = self._points[numbers]
        return _ParzenEstimator(
            {name: points[:, i] for i, name in enumerate(self._space)}, self._space, self._parameters
        )
