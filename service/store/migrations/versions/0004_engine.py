"""One write for both tables, counts, enqueued trials, nodes and shares

An attempt's row and Optuna's are written in one transaction now, under the lease row's lock. So nothing has to be told
later, and the triggers that fenced Optuna's own connections have no connection left to fence. What was yet to be told
is told here.
"""

import importlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA, OPTUNA = "mudman", "optuna"
TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
STUDY = {"ondelete": "CASCADE"}
COUNTING = "'valid', 'over_retain_budget', 'diverged'"

PARTS = {
    name: f"{kind} generated always as ((result ->> '{name}')::{kind}) stored"
    for name, kind in {
        "violation": "double precision",
        "overrun": "double precision",
        "stopped_at_pass": "integer",
        "seconds": "double precision",
        "passes_booked": "integer",
        "passes_made": "integer",
        "passes_skipped": "integer",
        "judged": "double precision",
    }.items()
} | {
    "judged_at": "integer generated always as "
    "(case when result ->> 'judged' is not null then (result #>> '{relearning,passes,-1}')::integer end) stored",
    "reason": "varchar generated always as (left(outcome || coalesce("
    "': ' || (result #>> '{fault,type}') || ': ' || (result #>> '{fault,message}'), ''), 1000)) stored",
}
"""What lists read of a result, which may be megabytes."""

TELL = f"""
create temporary table untold on commit drop as
select optuna_id as trial_id, outcome, value, reason,
    case when outcome in ({COUNTING})
        then coalesce(violation, case when outcome <> 'valid' then 1000 end) end as violation
from {SCHEMA}.trial join optuna.trials on trial_id = optuna_id and state = 'RUNNING'
where outcome is not null;

update optuna.trials set datetime_complete = now() at time zone 'utc', state = (case outcome
    when 'valid' then 'COMPLETE' when 'over_retain_budget' then 'PRUNED' when 'diverged' then 'PRUNED' else 'FAIL'
    end)::optuna.trialstate
from untold where untold.trial_id = trials.trial_id;

insert into optuna.trial_values (trial_id, objective, value, value_type)
select trial_id, 0, value, 'FINITE' from untold where outcome = 'valid' on conflict do nothing;

insert into optuna.trial_system_attributes (trial_id, key, value_json)
select trial_id, 'constraints:retain_budget', violation::text from untold where violation is not null
on conflict do nothing;

insert into optuna.trial_user_attributes (trial_id, key, value_json)
select trial_id, 'end_reason', to_json(reason)::text from untold where outcome <> 'valid' on conflict do nothing
"""
"""Results that were stored and not told: as ``optuna_rows.end`` would."""

CLOSE_ORPHANS = f"""
update optuna.trials set state = 'FAIL', datetime_complete = now() at time zone 'utc'
from optuna.studies join {SCHEMA}.study on id = study_name
where studies.study_id = trials.study_id and trials.state = 'RUNNING'
    and not exists (select from {SCHEMA}.trial where optuna_id = trial_id and outcome is null)
"""
"""Trials that a runner asked Optuna for and never wrote an attempt for."""


def upgrade() -> None:
    _fencing().downgrade()
    # One statement: each rewrites the table.
    parts = ", ".join(f"add column {name} {definition}" for name, definition in PARTS.items())
    op.execute(f"alter table {SCHEMA}.trial {parts}")
    for statement in TELL.split(";"):
        op.execute(statement)
    op.execute(CLOSE_ORPHANS)
    op.drop_column("trial", "told", schema=SCHEMA)
    op.create_index("ix_optuna_number", "trials", ["study_id", "number"], schema=OPTUNA)
    op.add_column(
        "trial", sa.Column("run_again", sa.Boolean(), server_default=sa.text("false"), nullable=False), schema=SCHEMA
    )
    op.drop_index("ix_trial_outcome", "trial", schema=SCHEMA)
    op.create_index("ix_trial_outcome", "trial", ["study_id", "outcome", "ordinal", "attempt"], schema=SCHEMA)
    op.create_index(
        "ix_trial_open", "trial", ["study_id", "ordinal"], schema=SCHEMA, postgresql_where=sa.text("outcome is null")
    )
    op.drop_index("ix_trial_best", "trial", schema=SCHEMA)
    _index_best(["study_id", "value", "ordinal"])
    op.create_index(
        "ix_trial_log", "trial", ["finished_at"], schema=SCHEMA, postgresql_where=sa.text("log is not null")
    )
    op.create_index("ix_event_at", "event", ["at"], schema=SCHEMA, postgresql_using="brin")
    _counts_once(f"{COUNTING}, 'pruned'")
    op.add_column("study_group", sa.Column("waiting", sa.String(), nullable=True), schema=SCHEMA)
    op.create_table(
        "outcome_count",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["mudman.study.id"], name="fk_outcome_count_study_id", **STUDY),
        sa.PrimaryKeyConstraint("study_id", "outcome", name="pk_outcome_count"),
        schema=SCHEMA,
    )
    op.execute(
        f"insert into {SCHEMA}.outcome_count (study_id, outcome, attempts, seconds) "
        "select study_id, outcome, count(*), coalesce(sum(extract(epoch from finished_at - started_at)), 0) "
        f"from {SCHEMA}.trial where outcome is not null group by study_id, outcome"
    )
    op.create_table(
        "deleted_usage",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("core_seconds", sa.Double(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "outcome", name="pk_deleted_usage"),
        schema=SCHEMA,
    )
    op.create_table(
        "enqueued_trial",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("hyperparameters", JSONB(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["mudman.study.id"], name="fk_enqueued_trial_study_id", **STUDY),
        sa.PrimaryKeyConstraint("study_id", "sequence", name="pk_enqueued_trial"),
        sa.UniqueConstraint("study_id", "ordinal", name="uq_enqueued_trial_study_id_ordinal"),
        schema=SCHEMA,
    )
    op.create_table(
        "node",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("cpus", sa.Double(), nullable=False),
        sa.Column("gpus", sa.Double(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSONB(), nullable=False),
        sa.Column("seen_at", TIME, server_default=NOW, nullable=False),
        sa.Column("quarantined_until", TIME, nullable=True),
        sa.Column("quarantine_reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_node"),
        schema=SCHEMA,
    )
    op.create_table(
        "owner_usage",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("used", sa.Double(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("quota", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_owner_usage"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """What was pruned becomes an error: the version before knows no such outcome."""
    for table in ("owner_usage", "node", "enqueued_trial", "deleted_usage", "outcome_count"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_column("study_group", "waiting", schema=SCHEMA)
    op.execute(
        f"update {SCHEMA}.trial set outcome = 'error', result = jsonb_set(result, '{{outcome}}', '\"error\"') "
        "where outcome = 'pruned'"
    )
    _counts_once(COUNTING)
    for index in ("ix_trial_open", "ix_trial_outcome", "ix_trial_best", "ix_trial_log"):
        op.drop_index(index, "trial", schema=SCHEMA)
    op.drop_index("ix_event_at", "event", schema=SCHEMA)
    op.drop_index("ix_optuna_number", "trials", schema=OPTUNA)
    _index_best(["study_id", sa.literal_column("value desc")])
    op.create_index("ix_trial_outcome", "trial", ["study_id", "outcome"], schema=SCHEMA)
    for column in ("run_again", *PARTS):
        op.drop_column("trial", column, schema=SCHEMA)
    op.add_column(
        "trial", sa.Column("told", sa.Boolean(), server_default=sa.text("false"), nullable=False), schema=SCHEMA
    )
    op.execute(f"update {SCHEMA}.trial set told = true where outcome is not null")
    _fencing().upgrade()


def _counts_once(outcomes: str) -> None:
    op.drop_index("uq_trial_counts_once", "trial", schema=SCHEMA)
    op.create_index(
        "uq_trial_counts_once",
        "trial",
        ["study_id", "ordinal"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text(f"outcome in ({outcomes})"),
    )


def _index_best(columns: list) -> None:
    where = sa.text("outcome = 'valid'")
    op.create_index("ix_trial_best", "trial", columns, schema=SCHEMA, postgresql_where=where)


def _fencing():
    """The revision that made the triggers; its name is no identifier."""
    return importlib.import_module("service.store.migrations.versions.0002_fencing")
