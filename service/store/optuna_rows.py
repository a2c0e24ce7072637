"""A study in Optuna's own tables, written so that Optuna and its dashboard read it as theirs.

Optuna's stock path makes over 50 statements and 14 commits per trial. Here a trial's start and its end are parts of the
statements that write our own row (see ``attempts``): either both tables know of it, or neither. The line is drawn
there: samplers never read these tables (see ``mirror``), and nothing of ours depends on what else is in them, so that
somebody may ask and tell trials of their own beside ours. Schema 12 of Optuna, unchanged since its version 3.2, and one
index of ours; the tests read every kind of row back with Optuna itself.
"""

import json

from sqlalchemy import text
from sqlalchemy.orm import Session

from mudman.results import Outcome

CONSTRAINT = "retain_budget"
"""Name of the one constraint that Optuna sees, whatever bounds the spec has; its value is the violation in units of
the bound."""
STATES = {
    Outcome.VALID: "COMPLETE",
    Outcome.OVER_RETAIN_BUDGET: "PRUNED",
    Outcome.DIVERGED: "PRUNED",
    Outcome.PRUNED: "PRUNED",
    Outcome.OUT_OF_MEMORY: "FAIL",
    Outcome.LOST: "FAIL",
    Outcome.CANCELLED: "FAIL",
    Outcome.ERROR: "FAIL",
}
"""Names of ``optuna.trial.TrialState``."""
_UNMEASURED_VIOLATION = 1000.0
"""Of a diverged trial that has none of its own: large and finite, for Optuna refuses NaN."""

_STUDY = text(
    """
    with study as (
        insert into optuna.studies (study_name) values (:name) on conflict do nothing returning study_id
    )
    insert into optuna.study_directions (study_id, objective, direction)
    select study_id, 0, cast(:direction as optuna.studydirection) from study
    """
)

# As Optuna does it: whoever adds a trial holds the study's row, so that no number is given twice. The number is read by
# the statement after it: this one may have waited for the lock, and sees what was there before.
LOCKED = """
    locked as materialized (
        select study_id from optuna.studies where study_name = :study_id for no key update
    )
"""
"""Part of a ``with``, in the statement before that of ``STARTED``. Without a row in it Optuna has no such study."""

STARTED = """
    trial as (
        insert into optuna.trials (trial_id, study_id, number, state, datetime_start)
        select optuna_id, studies.study_id, coalesce(last + 1, 0), 'RUNNING', now() at time zone 'utc'
        from added, optuna.studies,
            lateral (select max(number) as last from optuna.trials where study_id = studies.study_id) known
        where study_name = :study_id
        returning trial_id
    ), params as (
        insert into optuna.trial_params (trial_id, param_name, param_value, distribution_json)
        select trial_id, name, value, distribution
        from trial, jsonb_to_recordset(cast(:params as jsonb)) as p(name text, value float8, distribution text)
    ), attributes as (
        insert into optuna.trial_user_attributes (trial_id, key, value_json)
        select trial_id, key, value from trial, jsonb_each_text(cast(:attributes as jsonb))
    )
"""
"""Part of a ``with``: if ``added`` before it has a row, a running trial of that ``optuna_id``, with the next number of
the study: Optuna has no second attempts. Values: ``starting``."""

ENDED = """
    trial as (
        update optuna.trials set state = cast(:state as optuna.trialstate), datetime_complete = now() at time zone 'utc'
        from ended where trial_id = optuna_id and state = 'RUNNING' returning trial_id
    ), attributes as (
        insert into optuna.trial_user_attributes (trial_id, key, value_json)
        select trial_id, key, value from trial, jsonb_each_text(cast(:attributes as jsonb))
    ), constraints as (
        insert into optuna.trial_system_attributes (trial_id, key, value_json)
        select trial_id, key, value from trial, jsonb_each_text(cast(:constraints as jsonb))
    ), steps as (
        insert into optuna.trial_intermediate_values
            (trial_id, step, intermediate_value, intermediate_value_type)
        select trial_id, step, value, 'FINITE'
        from trial, jsonb_to_recordset(cast(:steps as jsonb)) as s(step int, value float8)
    ), objective as (
        insert into optuna.trial_values (trial_id, objective, value, value_type)
        select trial_id, 0, cast(:objective as float8), 'FINITE' from trial
        where cast(:objective as float8) is not null
    )
"""
"""Part of a ``with``: if ``ended`` before it has a row, the end of the trial of that ``optuna_id``. One that has ended
before stays as it is. Values: ``ending``."""


def create(session: Session, study_id: str, direction: str) -> None:
    """The Optuna study of that name, if there is none yet. ``direction``: ``maximize`` or ``minimize``."""
    session.execute(_STUDY, {"name": study_id, "direction": direction.upper()})


def starting(
    hyperparameters: dict[str, float], distributions: dict[str, str], notes: dict[str, object]
) -> dict[str, object]:
    """``distributions``: as Optuna's JSON, by name. ``notes``: user attributes."""
    params = [{"name": n, "value": v, "distribution": distributions[n]} for n, v in hyperparameters.items()]
    return {"params": json.dumps(params), "attributes": _json_values(notes)}


def ending(
    outcome: Outcome, *, value: float | None, violation: float | None, reason: str, steps: dict[int, float]
) -> dict[str, object]:
    """``steps``: intermediate values."""
    state = STATES[outcome]
    violation = violation_of(outcome, violation)
    constraints = {} if violation is None else {f"constraints:{CONSTRAINT}": violation}
    return {
        "state": state,
        "objective": value if state == "COMPLETE" else None,
        "attributes": _json_values({} if state == "COMPLETE" else {"end_reason": reason}),
        "constraints": _json_values(constraints),
        "steps": json.dumps([{"step": step, "value": value} for step, value in steps.items()]),
    }


def violation_of(outcome: Outcome, violation: float | None) -> float | None:
    """What the sampler sees as the constraint: nothing of a trial that it learns nothing from."""
    if STATES[outcome] == "FAIL":
        return None
    infeasible = outcome in (Outcome.OVER_RETAIN_BUDGET, Outcome.DIVERGED)
    return _UNMEASURED_VIOLATION if violation is None and infeasible else violation


def running(session: Session, study_id: str) -> list[int]:
    """``trial_id`` of every trial that Optuna holds for running."""
    query = text(
        "select trial_id from optuna.trials join optuna.studies using (study_id)"
        " where study_name = :name and trials.state = 'RUNNING' order by trial_id"
    )
    return list(session.scalars(query, {"name": study_id}))


_OF_TRIALS = ("params", "values", "intermediate_values", "user_attributes", "system_attributes", "heartbeats")
_OF_STUDIES = ("study_directions", "study_user_attributes", "study_system_attributes", "studies")
_AT_ONCE = 5000
"""Trials that one statement deletes: each is looked for in six tables, and statements have a time limit."""


def delete(session: Session, study_id: str) -> None:
    """Every row of the study, if it has any. Optuna's tables know no cascade."""
    name, own = {"name": study_id}, "(select study_id from optuna.studies where study_name = :name)"
    trials = list(session.scalars(text(f"select trial_id from optuna.trials where study_id = {own}"), name))
    tables = [*(f"trial_{table}" for table in _OF_TRIALS), "trials"]
    for start in range(0, len(trials), _AT_ONCE):
        for table in tables:
            statement = text(f"delete from optuna.{table} where trial_id = any(:trials)")
            session.execute(statement, {"trials": trials[start : start + _AT_ONCE]})
    for table in _OF_STUDIES:
        session.execute(text(f"delete from optuna.{table} where study_id = {own}"), name)


def _json_values(values: dict[str, object]) -> str:
    """Optuna keeps each attribute as JSON text."""
    return json.dumps({key: json.dumps(value) for key, value in values.items()})
