"""Webhooks: whom a job tells, what was told, and the secrets that sign it"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenant_role import wall

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UNTOLD = "webhook IS NOT NULL AND webhook_noted_at IS NULL AND (started_at IS NOT NULL OR completed_at IS NOT NULL)"


def upgrade() -> None:
    op.add_column("job", sa.Column("webhook", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("webhook_events", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("job", sa.Column("webhook_noted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_job_untold", "job", ["completed_at"], postgresql_where=sa.text(UNTOLD))
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("event IN ('completed', 'output', 'start')", name="ck_webhook_delivery_event_known"),
        sa.CheckConstraint(
            "(next_at IS NULL) = (delivered_at IS NOT NULL OR given_up_at IS NOT NULL)",
            name="ck_webhook_delivery_open_has_next",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_webhook_delivery_tenant_id_tenant"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_webhook_delivery_job_id_job", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
        sa.UniqueConstraint("job_id", "event", name="uq_webhook_delivery_job_id_event"),
    )
    op.create_index("ix_webhook_delivery_tenant_id", "webhook_delivery", ["tenant_id"])
    op.create_index(
        "ix_webhook_delivery_open",
        "webhook_delivery",
        ["tenant_id", "next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "webhook_secret",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_webhook_secret_tenant_id_tenant"),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_webhook_secret"),
    )
    wall("webhook_delivery", "SELECT, UPDATE")
    wall("webhook_secret", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    op.drop_table("webhook_secret")
    op.drop_table("webhook_delivery")
    op.drop_index("ix_job_untold", "job")
    for column in ("webhook_noted_at", "webhook_events", "webhook"):
        op.drop_column("job", column)
