"""Trials in memory, in the form that Optuna's samplers read."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection, load_study
from optuna.trial import FrozenTrial, TrialState

from mudman.specs import Range
from service.store.optuna_rows import CONSTRAINT


class Rows(InMemoryStorage):
    """Rows by ordinal, read as they are: Optuna's own storage copies them at every step."""

    _NAME = "rows"

    def __init__(self, space: dict[str, Range], direction: str):
        super().__init__()
        self.rows: list[FrozenTrial] = []
        self.distributions = {name: distribution(range_) for name, range_ in space.items()}
        self.create_new_study([StudyDirection[direction.upper()]], self._NAME)

    def sample(self, sampler: BaseSampler, ordinal: int) -> dict[str, float]:
        """What a fresh ``sampler`` suggests, all parameters at once where it can."""
        study, trial = self._study(sampler), row(ordinal, {}, self.distributions)
        found = sampler.sample_relative(study, trial, self.distributions)
        for name, each in self.distributions.items():
            if name not in found:
                found[name] = sampler.sample_independent(study, trial, name, each)
        return found

    def _study(self, sampler: BaseSampler) -> OptunaStudy:
        return load_study(study_name=self._NAME, storage=self, sampler=sampler)

    def get_all_trials(self, study_id, deepcopy=True, states=None):
        return [each for each in self.rows if states is None or each.state in states]

    def set_trial_system_attr(self, trial_id, key, value):
        """Samplers leave notes on the trial that is being asked for, for processes that share the storage: none do."""


def row(
    ordinal: int,
    hyperparameters: dict[str, float],
    distributions: dict[str, BaseDistribution],
    state: TrialState = TrialState.RUNNING,
    *,
    value: float | None = None,
    violation: float | None = None,
    steps: dict[int, float] | None = None,
) -> FrozenTrial:
    return FrozenTrial(
        number=ordinal,
        trial_id=ordinal,
        state=state,
        value=value,
        params=hyperparameters,
        distributions=distributions,
        user_attrs={},
        system_attrs={} if violation is None else {f"constraints:{CONSTRAINT}": violation},
        intermediate_values=steps or {},
        datetime_start=None,
        datetime_complete=None,
    )


def distribution(range_: Range) -> BaseDistribution:
    if range_.int:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)
