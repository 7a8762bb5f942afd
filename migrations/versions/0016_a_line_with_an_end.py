"""Whether the line of all tenants has room, which a tenant's own query cannot see"""

from alembic import op

from migrations.tenant_role import see_all

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# It counts no further than it has to.
LINE_HAS_ROOM = """
CREATE FUNCTION line_has_room(most double precision) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
  SELECT most = 'infinity' OR count(*) < most
  FROM (SELECT FROM job WHERE status = 'queued' LIMIT CASE WHEN most < 1e15 THEN ceil(most)::bigint END) AS waiting
$$
"""
SIGNATURE = "line_has_room(double precision)"


def upgrade() -> None:
    see_all(SIGNATURE, LINE_HAS_ROOM)


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
