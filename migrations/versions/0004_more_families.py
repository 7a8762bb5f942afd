"""More families of base models"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME = "ck_stable_diffusion_family_known"


def _allow(families: str) -> None:
    op.drop_constraint(_NAME, "stable_diffusion")
    op.create_check_constraint(op.f(_NAME), "stable_diffusion", f"family IN ({families})")


def upgrade() -> None:
    _allow("'flux', 'other', 'sd1', 'sd2', 'sd3', 'sdxl'")


def downgrade() -> None:
    # Refused while such models are there: nothing that came before could run them.
    _allow("'sd1', 'sd2', 'sdxl'")
