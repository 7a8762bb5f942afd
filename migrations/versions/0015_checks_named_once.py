"""The checks whose names say their table twice get the names that the code has for them"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

CHECKS = {
    "line_turn": ("share_positive", "worker_known"),
    "tenant_limit": ("share_positive",),
    "webhook_delivery": ("event_known", "open_has_next"),
}


def upgrade() -> None:
    for table, name in _names():
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT ck_{table}_{name} TO {name}")


def downgrade() -> None:
    for table, name in _names():
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO ck_{table}_{name}")


def _names() -> list[tuple[str, str]]:
    return [(table, f"ck_{table}_{check}") for table, checks in CHECKS.items() for check in checks]
