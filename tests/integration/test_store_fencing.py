"""The trigger on Optuna's tables: a stale runner is refused, the owner and everybody without a lease work."""

from contextlib import contextmanager

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from mudman import presets
from mudman.specs import parse
from service.store import studies
from service.store.database import optuna_url
from service.store.tables import Group, Study

TABLES = (
    "trials",
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
)


@contextmanager
def storage(database, fence=None):
    opened = RDBStorage(
        optuna_url(database.url, fence), engine_kwargs={"poolclass": NullPool}, skip_table_creation=True
    )
    yield opened
    opened.remove_session()


@pytest.fixture(scope="module")
def claimed(database):
    """(group, Optuna study id); the group is at epoch 2 and one running trial was made under epoch 1."""
    with database.begin() as session:
        spec = parse(presets.load("quickstart"))
        study = studies.create(session, spec).study
        session.get_one(Group, study.group_id).epoch = 1
    with storage(database, (study.group_id, 1)) as owner:
        study_id = owner.create_new_study([StudyDirection.MAXIMIZE], study.id)
        trial_id = owner.create_new_trial(study_id)
        owner.set_trial_user_attr(trial_id, "made", "by the first owner")
    with database.begin() as session:
        session.get_one(Group, session.get_one(Study, study.id).group_id).epoch = 2
    return study.group_id, study_id, trial_id


def test_the_stale_runner_can_neither_ask_nor_tell(database, claimed):
    group, study_id, trial_id = claimed
    with storage(database, (group, 1)) as stale:
        for write in (
            lambda: stale.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1)),
            lambda: stale.set_trial_user_attr(trial_id, "late", True),
            lambda: stale.set_trial_system_attr(trial_id, "late", True),
            lambda: stale.set_trial_intermediate_value(trial_id, 1, 0.5),
            lambda: stale.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0]),
        ):
            with pytest.raises(optuna.exceptions.StorageInternalError) as refused:
                write()
            assert _sqlstate(refused.value) == "MU001"
    assert _insertion_as(database, (group, 1), study_id) == "MU001"
    with storage(database) as reader:
        [trial] = reader.get_all_trials(study_id)
        assert (trial.state, trial.user_attrs, trial.params) == (TrialState.RUNNING, {"made": "by the first owner"}, {})


def _insertion_as(database, fence, study_id: int) -> str:
    """SQLSTATE of a refused ask. By hand: Optuna repeats any that fails five times, a second apart."""
    engine = create_engine(optuna_url(database.url, fence), poolclass=NullPool)
    insert = text("insert into optuna.trials (study_id, number, state) values (:study, 99, 'RUNNING')")
    with engine.connect() as connection, pytest.raises(DBAPIError) as refused:
        connection.execute(insert, {"study": study_id})
    return refused.value.orig.sqlstate


def _sqlstate(error: BaseException) -> str | None:
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    return error.orig.sqlstate if error else None


def test_the_owner_and_the_unfenced_work(database, claimed):
    group, study_id, _ = claimed
    for fence in ((group, 2), None):
        with storage(database, fence) as allowed:
            trial_id = allowed.create_new_trial(study_id)
            allowed.set_trial_param(trial_id, "x", 0.5, FloatDistribution(0, 1))
            assert allowed.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])


def test_a_lease_that_was_never_there_is_refused(database, claimed):
    _, study_id, _ = claimed
    assert _insertion_as(database, ("gr_unknown", 2), study_id) == "MU001"


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_fenced(database, claimed, table):
    group, _, _ = claimed
    engine = create_engine(optuna_url(database.url, (group, 1)), poolclass=NullPool)
    with engine.connect() as connection, pytest.raises(DBAPIError) as refused:
        connection.execute(text(f"update optuna.{table} set trial_id = trial_id"))
    assert refused.value.orig.sqlstate == "MU001"


def test_a_write_and_a_claim_wait_for_each_other(database, claimed):
    """No write slips between the trigger's check and its commit: the claim must wait until the write is in."""
    group, _, trial_id = claimed
    engine = create_engine(optuna_url(database.url, (group, 2)), poolclass=NullPool)
    with engine.connect() as writer, database.begin() as session:
        writer.execute(text("update optuna.trials set state = state where trial_id = :id"), {"id": trial_id})
        session.execute(text("set local lock_timeout = '200ms'"))
        with pytest.raises(DBAPIError) as waited, session.begin_nested():
            session.execute(text("update mudman.study_group set epoch = 3 where id = :id"), {"id": group})
        assert waited.value.orig.sqlstate == "55P03"  # lock_not_available
        writer.commit()
        session.execute(text("update mudman.study_group set epoch = 3 where id = :id"), {"id": group})
