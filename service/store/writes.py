"""What a runner writes while trials run, each in as few statements as can be: a trial may take no longer than these do.

Each is under a lease (see ``leases.HELD``). Postgres runs the parts of a ``with`` on one snapshot: what must be read
under a lock is read by the statement after it, or in the row that is locked or changed, which is always the latest.
"""

from sqlalchemy import text

from service.store import events, leases, optuna_rows
from service.store.tables import SCHEMA

PLACE = text(
    f"""
    with {leases.HELD}, {optuna_rows.LOCKED}
    select max_live, (select study_id from locked) as at_optuna, (
        select count(*) from {SCHEMA}.study join {SCHEMA}.trial on study_id = id
        where group_id = :group_id and outcome is null
            and (study_id, ordinal, attempt) <> (:study_id, :ordinal, :attempt)
    ) as others
    from held
    """
)
"""Before ``START``, in its transaction: the lease, the group's share, and the attempts that it has running beside."""

START = text(
    f"""
    with added as (
        insert into {SCHEMA}.trial (study_id, ordinal, attempt, epoch, hyperparameters, optuna_id)
        values (:study_id, :ordinal, :attempt, :epoch, cast(:hyperparameters as jsonb),
            nextval(pg_get_serial_sequence('optuna.trials', 'trial_id')))
        on conflict do nothing returning ordinal, optuna_id
    ), taken as (
        update {SCHEMA}.enqueued_trial set ordinal = added.ordinal
        from added where study_id = :study_id and sequence = :enqueued
    ), {optuna_rows.STARTED}, {events.appended("added")}
    select last_event from told
    """
)
"""No row: the attempt was known."""

PROGRESS = text(
    f"""
    with {leases.HELD}, stored as (
        update {SCHEMA}.trial set progress = said.progress,
            worker = said.worker || jsonb_build_object('heard_at', now()),
            started_at = case when trial.worker is null then now() else started_at end
        from held, jsonb_to_recordset(cast(:reports as jsonb))
            as said(study_id text, ordinal int, attempt int, progress jsonb, worker jsonb)
        where trial.study_id = said.study_id and trial.ordinal = said.ordinal and trial.attempt = said.attempt
            and outcome is null
    )
    select true from held
    """
)
"""No row: the lease is lost."""

_HEARD_AT = "cast(worker ->> 'heard_at' as timestamptz)"
_ELAPSED = "case when worker is null then 0 else extract(epoch from finished_at - started_at) end"

END = text(
    f"""
    with {leases.HELD}, ended as (
        update {SCHEMA}.trial set outcome = :outcome, value = cast(:value as float8), result = cast(:result as jsonb),
            log = :log, progress = null, worker = worker - 'heard_at',
            finished_at = case when :timed then now() else coalesce({_HEARD_AT}, now()) end
        from held where study_id = :study_id and ordinal = :ordinal and attempt = :attempt and outcome is null
        returning study_id, outcome, optuna_id, coalesce(nullif(seconds, 0), {_ELAPSED}) as spent
    ), {optuna_rows.ENDED}, counted as (
        insert into {SCHEMA}.outcome_count as kept (study_id, outcome, attempts, seconds)
        select study_id, outcome, 1, spent from ended
        on conflict (study_id, outcome)
            do update set attempts = kept.attempts + 1, seconds = kept.seconds + excluded.seconds
    ), forgiven as (
        update {SCHEMA}.study_group set failures = 0
        from ended, held where id = :group_id and held.failures > 0 and :verdict
    ), {events.appended("ended")}
    select last_event, exists(
        select from {SCHEMA}.enqueued_trial where study_id = :study_id and enqueued_trial.ordinal is null
    ) as enqueued
    from held left join told on true
    """
)
"""No row: the lease is lost; ``last_event`` null: the end was known. ``verdict``: runners that failed before are
forgotten. ``timed``: the attempt itself says how long it took. Whatever does not, was over with its last word: who
records its end may have come hours later."""
