"""Independent draws, and the tree-structured Parzen estimator that begins with them."""

from optuna.samplers import RandomSampler

from mudman.specs import StudySpec
from service.store import tpe
from service.store.attempts import Ending
from service.store.sampling.base import Sampler
from service.store.sampling.rows import Rows


class RandomSearch(Sampler):
    """Learns nothing."""

    def __init__(self, spec: StudySpec):
        super().__init__(spec)
        self._rows = Rows(self.space, spec.objective.direction)

    def suggest(self, ordinal: int) -> dict[str, float]:
        return self._rows.sample(RandomSampler(seed=self.seed(ordinal)), ordinal)

    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        pass

    def told(self, ordinal: int, ending: Ending) -> None:
        pass


class TreeParzen(RandomSearch):
    """TPE over all parameters at once. Open trials count as bad ones (constant liar), so that parallel workers do not
    crowd; trials that violate the constraint rank behind all others."""

    def __init__(self, spec: StudySpec):
        super().__init__(spec)
        self._tpe = tpe.Tpe(self._rows.distributions)

    def suggest(self, ordinal: int) -> dict[str, float]:
        if not self.space or self._tpe.finished < max(self.spec.sampler.startup_trials, 1):
            return super().suggest(ordinal)
        return self._tpe.suggest(self.seed(ordinal))

    def asked(self, ordinal: int, hyperparameters: dict[str, float]) -> None:
        self._tpe.add(hyperparameters)

    def told(self, ordinal: int, ending: Ending) -> None:
        rank = self.rank(ending)
        if rank is None:
            self._tpe.tell(ordinal, tpe.LEFT_OUT)
        else:
            self._tpe.tell(ordinal, (tpe.COMPLETE, tpe.PRUNED, tpe.INFEASIBLE)[rank[0]], *rank[1:])
