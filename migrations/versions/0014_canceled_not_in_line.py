"""No job in line whose cancel was asked for: nobody would claim it, and nobody would end it"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NAME = "ck_job_canceled_not_in_line"


def upgrade() -> None:
    # First for what is still to be written, or a worker of the old version puts one back behind the update.
    op.create_check_constraint(
        op.f(NAME), "job", "NOT (status = 'queued' AND cancel_requested)", postgresql_not_valid=True
    )
    op.execute("UPDATE job SET status = 'canceled', completed_at = now() WHERE status = 'queued' AND cancel_requested")
    op.execute(f"ALTER TABLE job VALIDATE CONSTRAINT {NAME}")


def downgrade() -> None:
    op.drop_constraint(op.f(NAME), "job")
