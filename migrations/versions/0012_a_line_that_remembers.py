"""A line that remembers what it served, so that a tenant's next job stands behind the time that its last one took"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

LINE_FRONT = """
CREATE OR REPLACE FUNCTION line_front(kinds text[]) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
  SELECT coalesce(
    -- Who is served next. A job that is back in line stands in front of it, where it was before.
    (SELECT min(place) FROM unnest(kinds) AS one, LATERAL (
      SELECT place FROM job WHERE kind = one AND status = 'queued' AND claim_epoch = 0 ORDER BY place LIMIT 1) AS head),
    (SELECT max(place) FROM job WHERE kind = ANY(kinds) AND status = 'running'),
    (SELECT min(place) FROM job WHERE kind = ANY(kinds) AND status = 'queued'),
    {if_empty},
    0)
$$
"""
# A worker's name is the name of one of the kinds that it does.
WHERE_IT_ENDED = "(SELECT max(served_place) FROM line_turn WHERE worker = ANY(kinds))"


def upgrade() -> None:
    op.add_column("line_turn", sa.Column("served_place", sa.Float(), server_default=sa.text("0"), nullable=False))
    op.add_column("line_turn", sa.Column("share", sa.Float(), server_default=sa.text("1"), nullable=False))
    op.create_check_constraint("ck_line_turn_share_positive", "line_turn", "share > 0")
    replace_line_front(if_empty=WHERE_IT_ENDED)


def downgrade() -> None:
    replace_line_front(if_empty="NULL")
    op.drop_column("line_turn", "share")
    op.drop_column("line_turn", "served_place")


def replace_line_front(*, if_empty: str) -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(LINE_FRONT.format(schema=schema, if_empty=if_empty))
