"""A place in line that is fair to every tenant"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WAITING = sa.text("status = 'queued'")


def upgrade() -> None:
    op.add_column("job", sa.Column("place", sa.Float(), server_default=sa.text("0"), nullable=False))
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", ["kind", "priority", "place", "created_at"], postgresql_where=WAITING)


def downgrade() -> None:
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", ["kind", "priority", "created_at"], postgresql_where=WAITING)
    op.drop_column("job", "place")
