"""Comparisons"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "mudman"


def upgrade() -> None:
    op.create_table(
        "comparison",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("preset", sa.String(), nullable=True),
        sa.Column("document", JSON(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("labels", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_comparison"),
        sa.UniqueConstraint("owner", "name", name="uq_comparison_owner_name"),
        schema=SCHEMA,
    )
    op.create_index("ix_comparison_page", "comparison", ["created_at", "id"], schema=SCHEMA)
    op.add_column("study", sa.Column("variant", sa.String(), nullable=True), schema=SCHEMA)
    op.alter_column("idempotency_key", "study_id", nullable=True, schema=SCHEMA)
    for table in ("study", "idempotency_key"):
        op.add_column(table, sa.Column("comparison_id", sa.String(), nullable=True), schema=SCHEMA)
        op.create_foreign_key(
            f"fk_{table}_comparison_id",
            table,
            "comparison",
            ["comparison_id"],
            ["id"],
            source_schema=SCHEMA,
            referent_schema=SCHEMA,
            ondelete="CASCADE",
        )
    op.create_index("ix_study_comparison", "study", ["comparison_id", "variant"], unique=True, schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_idempotency_key_one_thing"),
        "idempotency_key",
        "num_nonnulls(study_id, comparison_id) = 1",
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Studies of comparisons stay, as studies of their own."""
    op.drop_constraint(op.f("ck_idempotency_key_one_thing"), "idempotency_key", schema=SCHEMA)
    op.execute(f"delete from {SCHEMA}.idempotency_key where study_id is null")
    op.drop_index("ix_study_comparison", "study", schema=SCHEMA)
    for table in ("study", "idempotency_key"):
        op.drop_constraint(f"fk_{table}_comparison_id", table, schema=SCHEMA)
        op.drop_column(table, "comparison_id", schema=SCHEMA)
    op.alter_column("idempotency_key", "study_id", nullable=False, schema=SCHEMA)
    op.drop_column("study", "variant", schema=SCHEMA)
    op.drop_table("comparison", schema=SCHEMA)
