"""What is lost, and what is erased"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("artifact", sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("model_update", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("model_update", "erased_at")
    op.drop_column("artifact", "lost_at")
