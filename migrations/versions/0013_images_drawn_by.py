"""Count what an adapter drew by its index, which the walls between tenants keep a tenant's own query from"""

from alembic import op

from migrations.tenant_role import OWN, see_all

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Postgres looks whose a row is before it asks for `@>`, of which it cannot know that it tells nothing: so it reads all
# of a tenant's rows. Here the owner asks, and the tenant is a condition like another; outside a tenant's transaction it
# is the one that is named.
IMAGES_DRAWN_BY = """
CREATE FUNCTION images_drawn_by(adapter uuid, of_tenant uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
  SELECT count(*) FROM artifact
  WHERE adapters @> jsonb_build_array(jsonb_build_object('id', adapter::text)) AND type = 'image'
    AND tenant_id = of_tenant AND ({own} OR nullif(current_setting('lorikeet.tenant_id', true), '') IS NULL)
$$
"""
SIGNATURE = "images_drawn_by(uuid, uuid)"


def upgrade() -> None:
    see_all(SIGNATURE, IMAGES_DRAWN_BY.replace("{own}", OWN))


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SIGNATURE}")
