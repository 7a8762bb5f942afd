"""Limits of a tenant, and what it has used"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant_limit",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("requests_per_minute", sa.Float(), nullable=True),
        sa.Column("queued_jobs", sa.Float(), nullable=True),
        sa.Column("queued_seconds", sa.Float(), nullable=True),
        sa.Column("gpu_seconds_per_day", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_tenant_limit_tenant_id_tenant"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_limit"),
    )
    op.create_table(
        "gpu_usage",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_gpu_usage_tenant_id_tenant"),
        sa.PrimaryKeyConstraint("tenant_id", "hour", name="pk_gpu_usage"),
    )


def downgrade() -> None:
    op.drop_table("gpu_usage")
    op.drop_table("tenant_limit")
