"""One write for both tables, counts, enqueued trials, nodes and shares

An attempt's row and Optuna's are written in one transaction now, under the lease row's lock. So nothing has to be told
later, and the triggers that fenced Optuna's own connections have no connection left to fence.
"""

import importlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "mudman"
TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")
STUDY = {"ondelete": "CASCADE"}
COUNTING = "'valid', 'over_retain_budget', 'diverged'"


def upgrade() -> None:
    _fencing().downgrade()
    op.drop_column("trial", "told", schema=SCHEMA)
    op.add_column(
        "trial", sa.Column("run_again", sa.Boolean(), server_default=sa.text("false"), nullable=False), schema=SCHEMA
    )
    op.drop_index("ix_trial_outcome", "trial", schema=SCHEMA)
    op.create_index("ix_trial_outcome", "trial", ["study_id", "outcome", "ordinal", "attempt"], schema=SCHEMA)
    op.create_index(
        "ix_trial_open", "trial", ["study_id", "ordinal"], schema=SCHEMA, postgresql_where=sa.text("outcome is null")
    )
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
        sa.PrimaryKeyConstraint("owner", name="pk_owner_usage"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """What was pruned becomes an error: the version before knows no such outcome."""
    for table in ("owner_usage", "node", "enqueued_trial", "outcome_count"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_column("study_group", "waiting", schema=SCHEMA)
    op.execute(f"update {SCHEMA}.trial set outcome = 'error' where outcome = 'pruned'")
    _counts_once(COUNTING)
    op.drop_index("ix_trial_open", "trial", schema=SCHEMA)
    op.drop_index("ix_trial_outcome", "trial", schema=SCHEMA)
    op.create_index("ix_trial_outcome", "trial", ["study_id", "outcome"], schema=SCHEMA)
    op.drop_column("trial", "run_again", schema=SCHEMA)
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


def _fencing():
    """The revision that made the triggers; its name is no identifier."""
    return importlib.import_module("service.store.migrations.versions.0002_fencing")
