"""What a key may do, until when, and when it was used last"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ALL_SCOPES = """'["admin", "feedback", "generate", "train"]'::jsonb"""


def upgrade() -> None:
    op.add_column("api_key", sa.Column("shown_part", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "api_key",
        sa.Column("scopes", postgresql.JSONB(), server_default=sa.text(ALL_SCOPES), nullable=False),
    )
    op.add_column("api_key", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_key", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for column in ("last_used_at", "expires_at", "scopes", "shown_part"):
        op.drop_column("api_key", column)
