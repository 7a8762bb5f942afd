"""The role that tenants' transactions take on: a migration makes it, and so does a restore, for no dump has roles."""

ROLE = "lorikeet_tenant"

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
END $$;
"""
