"""Tokens, and who did what with them"""

import sqlalchemy as sa
from alembic import op

revision = "0005_access"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "mudman"
TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("used_at", TIME, nullable=True),
        sa.CheckConstraint("scope in ('read', 'submit', 'admin')", name=op.f("ck_token_scope")),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        schema=SCHEMA,
    )
    op.create_index("ix_token_hash", "token", ["hash"], unique=True, schema=SCHEMA)
    op.create_table(
        "audit_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.Column("token_id", sa.String(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
        schema=SCHEMA,
    )
    op.create_index("ix_audit_event_at", "audit_event", ["at"], schema=SCHEMA, postgresql_using="brin")


def downgrade() -> None:
    for table in ("audit_event", "token"):
        op.drop_table(table, schema=SCHEMA)
