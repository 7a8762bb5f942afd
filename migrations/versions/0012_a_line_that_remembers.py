"""A line that remembers what it served, so that a tenant's next job stands behind the time that its last one took"""

import sqlalchemy as sa
from alembic import op

from migrations.line_front import SIGNATURE, line_front
from migrations.tenant_role import see_all

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# A worker's name is the name of one of the kinds that it does.
WHERE_IT_ENDED = "(SELECT max(served_place) FROM line_turn WHERE worker = ANY(kinds))"


def upgrade() -> None:
    op.add_column("line_turn", sa.Column("served_place", sa.Float(), server_default=sa.text("0"), nullable=False))
    op.add_column("line_turn", sa.Column("share", sa.Float(), server_default=sa.text("1"), nullable=False))
    op.create_check_constraint("ck_line_turn_share_positive", "line_turn", "share > 0")
    see_all(SIGNATURE, line_front(if_empty=WHERE_IT_ENDED))


def downgrade() -> None:
    see_all(SIGNATURE, line_front(if_empty="NULL"))
    op.drop_column("line_turn", "share")
    op.drop_column("line_turn", "served_place")
