"""By how much owners are ahead of each other, and where studies are prepared"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "mudman"


def upgrade() -> None:
    op.add_column(
        "owner_usage", sa.Column("lead", sa.Float(), server_default=sa.text("0"), nullable=False), schema=SCHEMA
    )
    op.add_column("study", sa.Column("prepared_on", postgresql.JSONB(), nullable=True), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("study", "prepared_on", schema=SCHEMA)
    op.drop_column("owner_usage", "lead", schema=SCHEMA)
