"""A line that is read without its jobs: what a refusal and a place in line are reckoned from is in the indexes"""

import sqlalchemy as sa
from alembic import op

from migrations.line_ahead import FROM_INDEX, FROM_JOBS, SIGNATURE
from migrations.tenant_role import see_all

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

WAITING = sa.text("status = 'queued'")
ACTIVE = sa.text("status IN ('queued', 'running')")
READY, ACTIVE_OF = ["kind", "place", "created_at"], ["tenant_id", "priority", "created_at"]
BESIDE = ["id", "kind", "status", "place", "cost_seconds", "claimed_at"]

# An index is read alone where vacuum has seen the rows: it comes for new ones before they are a fifth of the table,
# most of which are jobs that are kept.
SHARE = "autovacuum_vacuum_insert_scale_factor"


def upgrade() -> None:
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", READY, postgresql_include=["id", "cost_seconds"], postgresql_where=WAITING)
    op.drop_index("ix_job_active", "job")
    op.create_index("ix_job_active", "job", ACTIVE_OF, postgresql_include=BESIDE, postgresql_where=ACTIVE)
    see_all(SIGNATURE, FROM_INDEX)
    op.execute(f"ALTER TABLE job SET ({SHARE} = 0.01)")


def downgrade() -> None:
    op.execute(f"ALTER TABLE job RESET ({SHARE})")
    see_all(SIGNATURE, FROM_JOBS)
    op.drop_index("ix_job_active", "job")
    op.create_index("ix_job_active", "job", ACTIVE_OF, postgresql_where=ACTIVE)
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", READY, postgresql_where=WAITING)
