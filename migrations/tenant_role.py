"""The role that tenants' transactions take on: a migration makes it, and so does a restore, for no dump has roles."""

from alembic import op

ROLE = "lorikeet_tenant"
OWN = "tenant_id = nullif(current_setting('lorikeet.tenant_id', true), '')::uuid"

# The role is the whole server's: other databases may have made it, and may do so at this moment.
CREATE_ROLE = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
    CREATE ROLE {ROLE} NOLOGIN;
  END IF;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN NULL;
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'The role {ROLE} is missing and cannot be made by this user: '
      'as a superuser, run CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO %;', current_user;
END $$;
DO $$ BEGIN
  IF NOT pg_has_role(current_user, '{ROLE}', 'USAGE') THEN
    EXECUTE format('GRANT {ROLE} TO %I', current_user);
  END IF;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'The role {ROLE} cannot be taken on by this user: '
      'as a superuser, run GRANT {ROLE} TO %;', current_user;
END $$;
"""


def see_all(signature: str, definition: str) -> None:
    """Let the role call a function, defined in `{schema}`, that sees with its owner's eyes."""
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(definition.replace("{schema}", schema))
    op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {ROLE}")


def wall(table: str, rights: str, *, is_visible: str = OWN) -> None:
    """Show the role those rows of a table alone that are visible, and let it use its rights on them."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} TO {ROLE} USING ({is_visible}) WITH CHECK ({is_visible})")
    op.execute(f"GRANT {rights} ON {table} TO {ROLE}")
