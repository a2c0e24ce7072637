"""The search of a study: samples on a mirror of it in memory, and keeps the study in Optuna's own tables.

Optuna's stock path writes every parameter in a transaction of its own; here a trial is sampled without the database
and then inserted in one go. The mirror has one trial per ordinal, numbered like it, whatever number of attempts the
ordinal took. So it is the same before and after any process died, and with it what is sampled next.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mudman.results import Outcome
from mudman.specs import Range, StudySpec
from service.store.attempts import Ending
from service.store.database import CONNECT_TIMEOUT, as_unavailable, optuna_url
from service.store.leases import Lease, LeaseLost

CONSTRAINT = "retain_budget"
"""Name of the one constraint that Optuna sees, whatever bounds the spec has; its value is the violation in units of
the bound."""
STALE_LEASE = "MU001"
"""SQLSTATE with which the fencing trigger refuses a stale runner (see the migrations)."""
_UNMEASURED_VIOLATION = 1000.0
"""Of a diverged trial that has none of its own: large and finite, for Optuna refuses NaN."""

_STATES = {
    Outcome.VALID: TrialState.COMPLETE,
    Outcome.OVER_RETAIN_BUDGET: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.PRUNED,
    Outcome.OUT_OF_MEMORY: TrialState.FAIL,
    Outcome.LOST: TrialState.FAIL,
    Outcome.CANCELLED: TrialState.FAIL,
    Outcome.ERROR: TrialState.FAIL,
}


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
        self._space = {name: _distribution(range_) for name, range_ in spec.search_space().items()}
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


def open_storage(url: str, lease: Lease) -> RDBStorage:
    """Optuna's tables, through connections that carry the lease's epoch."""
    engine = {
        "pool_size": 2,
        "max_overflow": 0,
        "pool_pre_ping": True,
        "connect_args": {
            "connect_timeout": CONNECT_TIMEOUT,
            "tcp_user_timeout": CONNECT_TIMEOUT * 1000,
            "application_name": "mudman-search",
        },
    }
    fenced = optuna_url(url, (lease.group_id, lease.epoch))
    with _translated(lease):
        return RDBStorage(fenced, skip_table_creation=True, skip_compatibility_check=True, engine_kwargs=engine)


class Search:
    """One study in Optuna's tables. Every method may raise ``DatabaseUnavailable`` or ``LeaseLost``."""

    def __init__(self, storage: RDBStorage, lease: Lease, study_id: str, spec: StudySpec):
        self._lease, self._storage = lease, storage
        self._space = {name: _distribution(range_) for name, range_ in spec.search_space().items()}
        with _translated(self._lease):
            self._study = optuna.create_study(
                study_name=study_id,
                storage=storage,
                direction=spec.objective.direction,
                sampler=RandomSampler(),
                load_if_exists=True,
            )
            self._optuna_study = storage.get_study_id_from_name(study_id)

    def insert(
        self, ordinal: int, attempt: int, hyperparameters: dict[str, float], opened: tuple[int, ...] | None
    ) -> int:
        """A running trial, whole and at once; returns Optuna's ``trial_id``. ``opened`` as in ``Suggestion``."""
        notes = {"ordinal": ordinal, "attempt": attempt}
        if opened is not None:
            notes["open_when_asked"] = list(opened)
        template = create_trial(
            state=TrialState.RUNNING, params=hyperparameters, distributions=self._space, user_attrs=notes
        )
        with _translated(self._lease):
            return self._storage.create_new_trial(self._optuna_study, template_trial=template)

    def tell(self, optuna_id: int, ending: Ending) -> None:
        """May be repeated: what Optuna knows already stays as it is."""
        with _translated(self._lease):
            if not self._storage.get_trial(optuna_id).state.is_finished():
                _tell(self._study, optuna_id, ending)


def running_in_optuna(session: Session, study_id: str) -> list[int]:
    """``trial_id`` of every trial that Optuna holds for running."""
    query = text(
        "select trial_id from optuna.trials join optuna.studies using (study_id)"
        " where study_name = :name and trials.state = 'RUNNING'"
    )
    return list(session.scalars(query, {"name": study_id}))


@contextmanager
def _translated(lease: Lease) -> Iterator[None]:
    """Optuna's errors as ours: the fence, and a database that is away."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, DBAPIError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        if isinstance(cause, DBAPIError):
            if getattr(cause.orig, "sqlstate", None) == STALE_LEASE:
                raise LeaseLost(lease.group_id, lease.epoch) from None
            if unavailable := as_unavailable(cause):
                raise unavailable from None
        raise


def _tell(study: optuna.Study, trial_id: int, ending: Ending) -> None:
    trial, state = optuna.Trial(study, trial_id), _STATES[ending.outcome]
    # A finished trial is immutable in Optuna: whatever is to be said about it comes first.
    if state is not TrialState.COMPLETE:
        trial.set_user_attr("end_reason", ending.reason or ending.outcome.value)
    violation = ending.violation
    if violation is None and state is TrialState.PRUNED:
        violation = _UNMEASURED_VIOLATION
    if violation is not None and state is not TrialState.FAIL and CONSTRAINT not in trial.constraints:
        trial.set_constraint(CONSTRAINT, violation)
    study.tell(trial, ending.value if state is TrialState.COMPLETE else None, state=state)


def _distribution(range_: Range) -> BaseDistribution:
    if range_.int:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)


def _sampler(spec: StudySpec, ordinal: int) -> BaseSampler:
    """A fresh sampler per ask: one seed for the whole search would replay its random start after every restart."""
    seed = int.from_bytes(hashlib.sha256(json.dumps([spec.sampler.seed, ordinal]).encode()).digest()[:4])
    if spec.sampler.type == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=spec.sampler.startup_trials)
