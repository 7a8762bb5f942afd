"""A line that no burst bends: a tenant's latest place, its share, and priorities among its own jobs"""

import sqlalchemy as sa
from alembic import op

from migrations.tenant_role import wall

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WAITING = sa.text("status = 'queued'")
ACTIVE = sa.text("status IN ('queued', 'running')")


def upgrade() -> None:
    op.create_table(
        "line_turn",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("next_place", sa.Float(), nullable=False),
        sa.Column("taken_by", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("worker IN ('generation', 'training')", name="ck_line_turn_worker_known"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_line_turn_tenant_id_tenant"),
        sa.PrimaryKeyConstraint("tenant_id", "worker", name="pk_line_turn"),
    )
    wall("line_turn", "SELECT, INSERT, UPDATE")
    op.add_column("tenant_limit", sa.Column("share", sa.Float(), nullable=True))
    op.create_check_constraint("ck_tenant_limit_share_positive", "tenant_limit", "share > 0")
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", ["kind", "place", "created_at"], postgresql_where=WAITING)
    op.create_index("ix_job_active", "job", ["tenant_id", "priority", "created_at"], postgresql_where=ACTIVE)


def downgrade() -> None:
    op.drop_index("ix_job_active", "job")
    op.drop_index("ix_job_ready", "job")
    op.create_index("ix_job_ready", "job", ["kind", "priority", "place", "created_at"], postgresql_where=WAITING)
    op.drop_column("tenant_limit", "share")
    op.drop_table("line_turn")
