"""Our tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "mudman"
TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "dispatcher",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("seen_at", TIME, server_default=NOW, nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dispatcher"),
        schema=SCHEMA,
    )
    op.create_table(
        "study_group",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_live", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study_group"),
        schema=SCHEMA,
    )
    op.create_table(
        "study",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("preset", sa.String(), nullable=True),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("spec_version", sa.Integer(), nullable=False),
        sa.Column("spec_hash", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("problem", JSONB(), nullable=True),
        sa.Column("preparation", JSONB(), nullable=True),
        sa.Column("last_event", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("queued_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state in ('queued', 'preparing', 'running', 'paused', 'completed', 'failed', 'cancelled')",
            name="ck_study_state",
        ),
        sa.ForeignKeyConstraint(["group_id"], ["mudman.study_group.id"], name="fk_study_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint("owner", "name", name="uq_study_owner_name"),
        schema=SCHEMA,
    )
    op.create_index("ix_study_group", "study", ["group_id"], schema=SCHEMA)
    op.create_index("ix_study_page", "study", ["created_at", "id"], schema=SCHEMA)
    op.create_table(
        "event",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["mudman.study.id"], name="fk_event_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "sequence", name="pk_event"),
        schema=SCHEMA,
    )
    op.create_table(
        "idempotency_key",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["mudman.study.id"], name="fk_idempotency_key_study_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_key"),
        schema=SCHEMA,
    )
    op.create_table(
        "trial",
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("optuna_id", sa.Integer(), nullable=True),
        sa.Column("hyperparameters", JSONB(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("told", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column("log", sa.String(), nullable=True),
        sa.Column("progress", JSONB(), nullable=True),
        sa.Column("worker", JSONB(), nullable=True),
        sa.Column("started_at", TIME, server_default=NOW, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["mudman.study.id"], name="fk_trial_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "ordinal", "attempt", name="pk_trial"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_trial_best",
        "trial",
        ["study_id", sa.literal_column("value desc")],
        schema=SCHEMA,
        postgresql_where=sa.text("outcome = 'valid'"),
    )
    op.create_index("ix_trial_outcome", "trial", ["study_id", "outcome"], schema=SCHEMA)
    op.create_index(
        "uq_trial_counts_once",
        "trial",
        ["study_id", "ordinal"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("outcome in ('valid', 'over_retain_budget', 'diverged')"),
    )


def downgrade() -> None:
    for table in ("trial", "idempotency_key", "event", "study", "study_group", "dispatcher"):
        op.drop_table(table, schema=SCHEMA)
