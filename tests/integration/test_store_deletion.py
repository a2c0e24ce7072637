"""Deleting a study of many trials: statement by statement, each of a size that its time limit allows."""

import large
import pytest
from sqlalchemy import event, func, select, text
from test_leases import submit

from service.store import actions, optuna_rows, studies
from service.store.tables import Event, Study, Trial

NAMES = ("unlearning_rate", "retaining_rate", "adversary_rate")
TRIALS = 2000


@pytest.fixture
def filled(new_database):
    """2,000 trials of three hyper-parameters that have ended, in a study that has too."""
    database = new_database()
    study_id = submit(database)
    with database.begin() as session:
        large.fill(session, study_id, TRIALS, names=NAMES)
        session.execute(text("delete from mudman.trial where outcome is null"))
        session.execute(text("update mudman.study set state = 'completed'"))
    return database, study_id


def deletions(database, study_id: str) -> list[int]:
    """Rows that each statement deleted; afterwards nothing is left."""
    rows = []

    def note(connection, cursor, statement, *others) -> None:
        if statement.lower().startswith("delete"):
            rows.append(cursor.rowcount)

    event.listen(database._engine, "after_cursor_execute", note)
    try:
        with database.begin() as session:
            actions.delete(session, study_id)
    finally:
        event.remove(database._engine, "after_cursor_execute", note)
    with database.begin() as session:
        for table in (Study, Trial, Event):
            assert session.scalar(select(func.count()).select_from(table)) == 0
        for table in ("studies", "trials", "trial_params", "trial_values", "trial_user_attributes"):
            assert session.scalar(text(f"select count(*) from optuna.{table}")) == 0
    return rows


@pytest.mark.parametrize("at_once", [250, 500])
def test_no_statement_deletes_more_than_a_batch(filled, monkeypatch, at_once):
    database, study_id = filled
    with database.begin() as session:
        happened = studies.get(session, study_id).last_event
        assert happened > 2 * TRIALS
    for module in (actions, optuna_rows):
        monkeypatch.setattr(module, "_AT_ONCE", at_once)
    rows = deletions(database, study_id)
    assert max(rows) == len(NAMES) * at_once, "of each trial there are three parameters"
    # The study itself takes nothing with it: our rows were counted too, each trial with its values and attributes.
    of_a_trial = 1 + 1 + len(NAMES) + 2
    assert sum(rows) >= TRIALS * of_a_trial + happened
    assert len(rows) >= 6 * TRIALS / at_once
