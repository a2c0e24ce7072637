"""Migrations of a database in use: forward, back and forward again, and nothing that counts is lost."""

import json
from collections.abc import Iterator

import pytest
from optuna import create_study
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool
from test_leases import spec

from mudman.results import Curve, Fault, Outcome, TrialResult
from service.store import (
    attempts,
    audit,
    checkpoints,
    optuna_rows,
    pages,
    recent,
    repeating,
    standing,
    studies,
    tokens,
)
from service.store import migrate as migrations
from service.store.database import Database, driver_url, optuna_url
from service.store.pages import StudyFilter
from service.store.scopes import Scope
from service.store.tables import Group, Study

STATES = ("queued", "preparing", "running", "paused", "completed", "failed", "cancelled")
BUSY = "st_2running00000000"
"""The study that has the trials."""
CURVE = Curve(passes=(0, 30), forget_loss=(4.0, 3.0), retain_loss=(3.0, 3.0))
OLD = {
    outcome: TrialResult(
        outcome=outcome,
        value=float(ordinal + 1) if outcome is Outcome.VALID else None,
        violation={Outcome.VALID: -0.5, Outcome.OVER_RETAIN_BUDGET: 0.25}.get(outcome),
        overrun=0.02 if outcome is Outcome.OVER_RETAIN_BUDGET else None,
        fault=Fault(type="ValueError", message='"quoted": \\ ü') if outcome is Outcome.ERROR else None,
        relearning=CURVE,
        seconds=2.5,
        passes_booked=600,
        passes_made=590,
    )
    for ordinal, outcome in enumerate(outcome for outcome in Outcome if outcome is not Outcome.PRUNED)
}
"""A result of every outcome that revision 0003 knows."""


@pytest.fixture
def url(postgres) -> str:
    url = postgres.create(template="template1")
    migrations.migrate(url)
    return url


@pytest.fixture
def connection(url) -> Iterator[Connection]:
    """At revision 0003, with data."""
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        migrations.downgrade(connection, "0003")
        fill(connection, url)
        yield connection


def fill(connection: Connection, url: str) -> None:
    """Studies in every state. One has each outcome twice, told and untold, and an attempt that runs; of these, Optuna
    knows all, and one more that no attempt was ever written for."""
    document = spec("name").model_dump(mode="json")
    for number, state in enumerate(STATES):
        given = {
            "id": f"st_{number}{state:0<15}",
            "group": f"gr {number}",
            "name": state,
            "spec": json.dumps(document | {"name": state}),
            "state": state,
        }
        connection.execute(text("insert into mudman.study_group (id, priority) values (:group, 0)"), given)
        connection.execute(
            text(
                "insert into mudman.study (id, group_id, owner, name, spec, spec_version, spec_hash, state, last_event)"
                " values (:id, :group, 'me', :name, :spec, 1, 'hash', :state, 1)"
            ),
            given,
        )
        event = "insert into mudman.event (study_id, sequence, kind, data) values (:id, 1, 'created', '{}')"
        connection.execute(text(event), given)
    storage = RDBStorage(optuna_url(url), engine_kwargs={"poolclass": NullPool})
    study = create_study(study_name=BUSY, storage=storage, direction="maximize")
    ordinal = 0
    for told in (True, False):
        for result in OLD.values():
            add(connection, storage, study, ordinal, result, told)
            ordinal += 1
    add(connection, storage, study, ordinal, None, False)
    storage.create_new_trial(study._study_id)
    connection.commit()


def add(connection: Connection, storage, study, ordinal: int, result: TrialResult | None, told: bool) -> None:
    template = create_trial(
        state=TrialState.RUNNING,
        params={"unlearning_rate": 0.125},
        distributions={"unlearning_rate": FloatDistribution(1e-7, 0.3, log=True)},
        user_attrs={"ordinal": ordinal, "attempt": 1},
    )
    optuna_id = storage.create_new_trial(study._study_id, template_trial=template)
    connection.execute(
        text(
            "insert into mudman.trial (study_id, ordinal, attempt, epoch, optuna_id, hyperparameters, outcome, told,"
            " value, result, log, started_at, finished_at) values (:study, :ordinal, 1, 1, :optuna,"
            " '{\"unlearning_rate\": 0.125}', :outcome, :told, :value, :result, 'words', now() - interval '10 seconds',"
            " case when :ended then now() end)"
        ),
        {
            "study": BUSY,
            "ordinal": ordinal,
            "optuna": optuna_id,
            "outcome": result and result.outcome.value,
            "told": told,
            "value": result and result.value,
            "result": result and result.model_dump_json(exclude={"log"}),
            "ended": result is not None,
        },
    )
    if told:
        state = TrialState[optuna_rows.STATES[result.outcome]]
        if result.outcome in (Outcome.OVER_RETAIN_BUDGET, Outcome.DIVERGED, Outcome.VALID):
            violation = optuna_rows.violation_of(result.outcome, result.violation)
            storage.set_trial_system_attr(optuna_id, f"constraints:{optuna_rows.CONSTRAINT}", violation)
        if state is not TrialState.COMPLETE:
            storage.set_trial_user_attr(optuna_id, "end_reason", attempts.Ending.of(result).reason)
        storage.set_trial_state_values(optuna_id, state, [result.value] if result.value else None)


def everything(connection: Connection) -> list:
    """What both revisions hold of the trials."""
    columns = (
        "ordinal, attempt, epoch, optuna_id, hyperparameters, outcome, value, result, log, started_at, finished_at"
    )
    found = connection.execute(text(f"select {columns} from mudman.trial order by ordinal, attempt")).all()
    return [tuple(row) for row in found]


def at_optuna(connection: Connection) -> list:
    rows = []
    for table in ("trials", "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes"):
        columns = "number, state" if table == "trials" else "trial_id, to_jsonb(t) - array[:key]"
        key = {"key": {"trial_params": "param_id", "trial_values": "trial_value_id"}.get(table, f"{table[:-1]}_id")}
        query = text(f"select '{table}', {columns} from optuna.{table} t order by 1, 2, 3")
        rows += [str(row) for row in connection.execute(query, key if "key" in columns else {})]
    return sorted(rows)


def test_forward_back_and_forward(url, connection):
    before = everything(connection)
    connection.rollback()
    migrations.upgrade(connection)
    assert everything(connection) == before
    connection.rollback()
    check(url)
    told = at_optuna(connection)
    pruned = """update mudman.trial set outcome = 'pruned', result = result || '{"outcome": "pruned"}'"""
    connection.execute(text(f"{pruned} where ordinal = 4"))
    connection.commit()

    migrations.downgrade(connection, "0003")
    again = everything(connection)
    assert again[:4] + again[5:] == before[:4] + before[5:]
    assert (again[4][5], again[4][7]["outcome"]) == ("error", "error"), "the version before knows no pruned trials"
    untold = connection.execute(text("select ordinal from mudman.trial where told != (outcome is not null)"))
    assert untold.scalars().all() == []
    assert at_optuna(connection) == told
    connection.rollback()

    migrations.upgrade(connection)
    assert everything(connection) == again
    assert at_optuna(connection) == told
    states = connection.execute(text("select state from mudman.study order by id")).scalars().all()
    assert states == list(STATES)
    kinds = connection.execute(text("select study_id, sequence, kind from mudman.event")).all()
    assert len(kinds) == len(STATES)


def check(url: str) -> None:
    """After the upgrade the study stands as its trials say, Optuna knows every end, and a runner may go on."""
    twice = {str(outcome): 2 for outcome in OLD}
    database = Database(url)
    with database.begin() as session:
        assert standing.counts(session, BUSY) == twice | {"running": 1}
        study = studies.get(session, BUSY)
        progress = standing.progress(session, study, max_live=None)
        assert (progress.trials, progress.running, progress.best_value) == (6, 1, 1.0)
        assert progress.outcomes == twice
        # What remains of the budget of three is nothing.
        assert progress.eta_seconds == 0
        best = standing.best(session, study)
        assert (best.ordinal, best.seconds, best.violation, best.passes_made) == (0, 2.5, -0.5, 590)
        listed = {row.study.state: row for row in pages.studies(session, StudyFilter(), 50)[0]}
        assert listed.keys() == set(STATES)
        assert (listed["running"].trials, listed["queued"].trials) == (6, 0)
        tally = recent.tallies(session, [study])[BUSY]
        assert (tally.values, tally.outcomes, tally.seconds) == ([1.0, 1.0], twice, 2 * len(OLD) * 2.5)
        for row, result in zip(attempts.history(session, BUSY), [*OLD.values(), *OLD.values()], strict=False):
            assert row.ending == attempts.Ending.of(result)
        assert len(optuna_rows.running(session, BUSY)) == 1, "only the attempt that runs"
    storage = RDBStorage(optuna_url(url), engine_kwargs={"poolclass": NullPool})
    found = storage.get_all_trials(storage.get_study_id_from_name(BUSY))
    for first, second in zip(found[: len(OLD)], found[len(OLD) :], strict=False):
        assert first.state == second.state
        assert first.values == second.values
        assert first.constraints == second.constraints
        assert first.user_attrs.get("end_reason") == second.user_attrs.get("end_reason")
    assert [trial.state for trial in found[-2:]] == [TrialState.RUNNING, TrialState.FAIL]
    database.close()


SEARCH, KEEPING = "st_search0000000000", "st_keeping000000000"


@pytest.fixture
def newest(url) -> Iterator[Connection]:
    """At the newest revision: tokens, what was done with them, a study that repeats another, and a doomed folder."""
    database = Database(url)
    with database.begin() as session:
        for owner, scope in (("root", Scope.ADMIN), ("ann", Scope.SUBMIT)):
            tokens.create(session, owner=owner, scope=scope, days=9, value=tokens.new_text())
        audit.record(session, address="here", method="POST", path="/studies", status=201)
        session.add(Group(id="gr", priority=0))
        session.flush()
        for study_id, repeats_id in ((SEARCH, None), (KEEPING, SEARCH)):
            document = spec(study_id).model_dump(mode="json")
            about = {"owner": "me", "name": study_id, "spec": document, "spec_version": 1, "spec_hash": "hash"}
            session.add(Study(id=study_id, group_id="gr", state="completed", repeats_id=repeats_id, **about))
            session.flush()
        checkpoints.doom(session, [KEEPING])
    database.close()
    engine = create_engine(driver_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def rows(connection: Connection, table: str, columns: str = "*") -> list[tuple]:
    found = [tuple(row) for row in connection.execute(text(f"select {columns} from mudman.{table} order by 1"))]
    connection.rollback()
    return found


def test_repeats_and_doomed_artifacts_back_and_forward(url, newest):
    """Back, a study that repeats another is one of its own; what was doomed is no longer known, and its files stay."""
    kept = {table: rows(newest, table) for table in ("token", "audit_event")}
    about = "id, name, state, spec"
    studies_before = rows(newest, "study", about)
    assert rows(newest, "study", "id, repeats_id") == [(KEEPING, SEARCH), (SEARCH, None)]
    migrations.downgrade(newest, "0005_access")
    assert rows(newest, "study", about) == studies_before
    assert {table: rows(newest, table) for table in kept} == kept
    newest.execute(text("delete from mudman.study where id = :search"), {"search": SEARCH})
    newest.commit()
    migrations.upgrade(newest)
    assert rows(newest, "study", "id, repeats_id") == [(KEEPING, None)]
    assert rows(newest, "doomed_artifact") == []
    usable(url)


def test_tokens_and_audit_events_back_and_forward(url, newest):
    """Back, nobody is let in by a token, for there are none; forward again, they have to be made anew."""
    studies_before = rows(newest, "study", "id, name, state, spec")
    migrations.downgrade(newest, "0004")
    assert rows(newest, "study", "id, name, state, spec") == studies_before
    migrations.upgrade(newest)
    assert rows(newest, "study", "id, name, state, spec") == studies_before
    assert [rows(newest, table) for table in ("token", "audit_event", "doomed_artifact")] == [[], [], []]
    usable(url)


def usable(url: str) -> None:
    """This version goes on with it: it finds a token that it makes, and a study's row that it finds."""
    database = Database(url)
    with database.begin() as session:
        assert migrations.is_current(session)
        value = tokens.new_text()
        made = tokens.create(session, owner="ann", scope=Scope.READ, days=1, value=value)
        assert tokens.find(session, value).id == made.id
        audit.record(session, address="here", method="GET", path="/", status=401)
        assert repeating.children(session, SEARCH) == []
        assert studies.get(session, KEEPING).repeats_id is None
        checkpoints.doom(session, [KEEPING])
    database.close()
