"""Studies that run trials of another one again, and artifacts to be removed"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005_access"
branch_labels = None
depends_on = None

SCHEMA = "mudman"


def upgrade() -> None:
    op.add_column("study", sa.Column("repeats_id", sa.String(), nullable=True), schema=SCHEMA)
    op.create_foreign_key(
        "fk_study_repeats_id",
        "study",
        "study",
        ["repeats_id"],
        ["id"],
        source_schema=SCHEMA,
        referent_schema=SCHEMA,
        ondelete="SET NULL",
    )
    op.create_index(
        "ix_study_repeats", "study", ["repeats_id"], schema=SCHEMA, postgresql_where="repeats_id is not null"
    )
    op.create_table(
        "doomed_artifact",
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name="pk_doomed_artifact"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """They stay, as studies of their own. What is doomed is no longer known, and its files stay."""
    op.drop_table("doomed_artifact", schema=SCHEMA)
    op.drop_index("ix_study_repeats", "study", schema=SCHEMA)
    op.drop_constraint("fk_study_repeats_id", "study", schema=SCHEMA)
    op.drop_column("study", "repeats_id", schema=SCHEMA)
