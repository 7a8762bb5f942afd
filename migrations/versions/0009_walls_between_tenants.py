"""Walls between tenants, in the database itself: row-level security for a role that the API's transactions take on"""

from alembic import op

from migrations import line_ahead, line_front
from migrations.tenant_role import CREATE_ROLE, ROLE, see_all, wall

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Table -> what a tenant's transaction may do there, beside reading.
OWNED = {
    "adapter": "INSERT, UPDATE, DELETE",
    "artifact": "UPDATE",
    "dataset": "INSERT, UPDATE, DELETE",
    "gpu_usage": "",
    "job": "INSERT, UPDATE",
    "model_update": "INSERT, UPDATE",
    "rollout": "INSERT, UPDATE",
    "stable_diffusion": "INSERT, UPDATE",
    "tenant_limit": "",
    "transition": "INSERT, UPDATE",
    "update_policy": "INSERT, UPDATE",
    "user_feedback": "INSERT, UPDATE",
}
# Table -> its owner's row, which has the tenant, and what may be done.
PARTS = {
    "checkpoint": ("job", "job_id", ""),
    "dataset_image": ("dataset", "dataset_id", "INSERT, UPDATE, DELETE"),
    "training_data": ("model_update", "model_update_id", "INSERT, UPDATE, DELETE"),
    "training_exclusion": ("model_update", "model_update_id", "INSERT, UPDATE, DELETE"),
    "training_metric": ("job", "job_id", ""),
}
READ_BY_ALL = {"work_rate": "", "worker_presence": "(kind, slots, seen_at)"}

# What a tenant must know of the others' work: how much there is, and nothing else. They see with their owner's eyes.
FUNCTIONS = {
    line_front.SIGNATURE: line_front.line_front(if_empty="NULL"),
    line_ahead.SIGNATURE: line_ahead.FROM_JOBS,
}


def upgrade() -> None:
    op.execute(CREATE_ROLE)
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}")
    for table, rights in OWNED.items():
        wall(table, ", ".join(filter(None, ("SELECT", rights))))
    op.execute(f"CREATE POLICY shared ON stable_diffusion FOR SELECT TO {ROLE} USING (shared)")
    for table, (owner, column, rights) in PARTS.items():
        is_visible = f"EXISTS (SELECT FROM {owner} WHERE {owner}.id = {column})"
        wall(table, ", ".join(filter(None, ("SELECT", rights))), is_visible=is_visible)
    for table, columns in READ_BY_ALL.items():
        op.execute(f"GRANT SELECT {columns} ON {table} TO {ROLE}")
    for signature, definition in FUNCTIONS.items():
        see_all(signature, definition)


def downgrade() -> None:
    # The role stays: other databases of the server may use it.
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP POLICY shared ON stable_diffusion")
    for table in (*OWNED, *PARTS):
        op.execute(f"DROP POLICY own ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for table in (*OWNED, *PARTS, *READ_BY_ALL):
        op.execute(f"REVOKE ALL ON {table} FROM {ROLE}")
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM {ROLE}")
