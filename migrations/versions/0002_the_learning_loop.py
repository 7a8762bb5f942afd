"""The learning loop"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JOB_KINDS = "kind IN ('generation', 'model_update', 'registration', 'training')"
STATUSES = (
    "status IN ('awaiting_approval', 'canary', 'canceled', 'evaluating', 'failed', 'planned', 'promoted', 'rejected', "
    "'training')"
)
ARMS = "{column} IN ('challenger', 'incumbent')"
CHANGED = [
    ("job", "kind_known", JOB_KINDS, "kind IN ('generation', 'registration', 'training')"),
    ("work_rate", "kind_known", JOB_KINDS, "kind IN ('generation', 'registration', 'training')"),
    (
        "model_update",
        "status_known",
        STATUSES,
        "status IN ('canary', 'evaluating', 'failed', 'planned', 'promoted', 'rejected', 'training')",
    ),
]
ADDED = [
    ("artifact", "arm_known", ARMS.format(column="arm")),
    ("user_feedback", "arm_known", ARMS.format(column="arm")),
    ("user_feedback", "rejected_arm_known", ARMS.format(column="rejected_arm")),
    ("model_update", "trigger_known", "trigger IN ('hand', 'policy', 'withdrawal')"),
]
SUBJECT = """
    UPDATE user_feedback SET subject = CASE kind
      WHEN 'choice' THEN 'choice:' || least(image_id, rejected_image_id) || ':' || greatest(image_id, rejected_image_id)
      WHEN 'comment' THEN 'comment:' || image_id
      ELSE 'label:' || image_id END
"""


def upgrade() -> None:
    op.create_table(
        "update_policy",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("stable_diffusion_id", sa.UUID(), nullable=False),
        sa.Column(
            "policy", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("decision", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["stable_diffusion_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_update_policy_stable_diffusion_id_stable_diffusion"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_update_policy_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("tenant_id", "stable_diffusion_id", name=op.f("pk_update_policy")),
    )
    op.create_table(
        "rollout",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("stable_diffusion_id", sa.UUID(), nullable=False),
        sa.Column("model_update_id", sa.UUID(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("challenger_id", sa.UUID(), nullable=False),
        sa.Column("incumbent_id", sa.UUID(), nullable=True),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column(
            "policy", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "evidence", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('canary', 'watch')", name=op.f("ck_rollout_kind_known")),
        sa.CheckConstraint(
            "outcome IN ('aborted', 'kept', 'promoted', 'rolled_back', 'superseded')",
            name=op.f("ck_rollout_outcome_known"),
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_rollout_ended_has_outcome")),
        sa.CheckConstraint("share BETWEEN 0 AND 1", name=op.f("ck_rollout_share_in_range")),
        sa.ForeignKeyConstraint(["challenger_id"], ["adapter.id"], name=op.f("fk_rollout_challenger_id_adapter")),
        sa.ForeignKeyConstraint(["incumbent_id"], ["adapter.id"], name=op.f("fk_rollout_incumbent_id_adapter")),
        sa.ForeignKeyConstraint(
            ["model_update_id"], ["model_update.id"], name=op.f("fk_rollout_model_update_id_model_update")
        ),
        sa.ForeignKeyConstraint(
            ["stable_diffusion_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_rollout_stable_diffusion_id_stable_diffusion"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_rollout_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    op.create_index(op.f("ix_rollout_challenger_id"), "rollout", ["challenger_id"], unique=False)
    op.create_index(op.f("ix_rollout_incumbent_id"), "rollout", ["incumbent_id"], unique=False)
    op.create_index(op.f("ix_rollout_model_update_id"), "rollout", ["model_update_id"], unique=False)
    op.create_index(op.f("ix_rollout_stable_diffusion_id"), "rollout", ["stable_diffusion_id"], unique=False)
    op.create_index(op.f("ix_rollout_tenant_id"), "rollout", ["tenant_id"], unique=False)
    op.create_index(
        "uq_rollout_running",
        "rollout",
        ["tenant_id", "stable_diffusion_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "transition",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("stable_diffusion_id", sa.UUID(), nullable=False),
        sa.Column("adapter_id", sa.UUID(), nullable=True),
        sa.Column("model_update_id", sa.UUID(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("num_nonnulls(adapter_id, model_update_id) >= 1", name=op.f("ck_transition_has_subject")),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_transition_adapter_id_adapter"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["model_update_id"], ["model_update.id"], name=op.f("fk_transition_model_update_id_model_update")
        ),
        sa.ForeignKeyConstraint(
            ["stable_diffusion_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_transition_stable_diffusion_id_stable_diffusion"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_transition_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transition")),
    )
    op.create_index(op.f("ix_transition_adapter_id"), "transition", ["adapter_id"], unique=False)
    op.create_index(
        "ix_transition_listed", "transition", ["tenant_id", "stable_diffusion_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_transition_model_update_id"), "transition", ["model_update_id"], unique=False)
    op.create_index(op.f("ix_transition_tenant_id"), "transition", ["tenant_id"], unique=False)
    op.create_table(
        "training_exclusion",
        sa.Column("model_update_id", sa.UUID(), nullable=False),
        sa.Column("feedback_id", sa.UUID(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["user_feedback.id"], name=op.f("fk_training_exclusion_feedback_id_user_feedback")
        ),
        sa.ForeignKeyConstraint(
            ["model_update_id"],
            ["model_update.id"],
            name=op.f("fk_training_exclusion_model_update_id_model_update"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_update_id", "feedback_id", name=op.f("pk_training_exclusion")),
    )
    op.create_index(op.f("ix_training_exclusion_feedback_id"), "training_exclusion", ["feedback_id"], unique=False)
    op.create_index(
        "uq_adapter_serving",
        "adapter",
        ["tenant_id", "base_model_id", "stage"],
        unique=True,
        postgresql_where=sa.text("stage IN ('champion', 'canary')"),
    )
    op.add_column("artifact", sa.Column("perceptual_hash", sa.Text(), nullable=True))
    op.add_column("artifact", sa.Column("rollout_id", sa.UUID(), nullable=True))
    op.add_column("artifact", sa.Column("arm", sa.Text(), nullable=True))
    op.create_index(op.f("ix_artifact_rollout_id"), "artifact", ["rollout_id"], unique=False)
    op.create_index(
        "ix_artifact_adapters",
        "artifact",
        ["adapters"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"adapters": "jsonb_path_ops"},
    )
    op.create_foreign_key(op.f("fk_artifact_rollout_id_rollout"), "artifact", "rollout", ["rollout_id"], ["id"])
    op.add_column("model_update", sa.Column("replaces_update_id", sa.UUID(), nullable=True))
    op.add_column("model_update", sa.Column("trigger", sa.Text(), server_default="policy", nullable=False))
    op.add_column(
        "model_update",
        sa.Column(
            "policy", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
    )
    op.add_column("model_update", sa.Column("trained", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("model_update", sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("model_update", sa.Column("outcome_reason", sa.Text(), nullable=True))
    op.add_column("model_update", sa.Column("decide_by", sa.DateTime(timezone=True), nullable=True))
    op.add_column("model_update", sa.Column("taken_back_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("model_update", sa.Column("clean_by", sa.DateTime(timezone=True), nullable=True))
    op.drop_index(
        op.f("uq_model_update_in_flight"),
        table_name="model_update",
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'canary')"),
    )
    op.create_index(
        "uq_model_update_in_flight",
        "model_update",
        ["tenant_id", "stable_diffusion_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'awaiting_approval', 'canary')"),
    )
    op.create_index("ix_model_update_listed", "model_update", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_model_update_replaces_update_id"), "model_update", ["replaces_update_id"], unique=False)
    op.create_foreign_key(
        op.f("fk_model_update_replaces_update_id_model_update"),
        "model_update",
        "model_update",
        ["replaces_update_id"],
        ["id"],
    )
    op.add_column("training_data", sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("training_data", sa.Column("image_sha256", sa.String(length=64), nullable=True))
    op.add_column("user_feedback", sa.Column("rejected_adapter_id", sa.UUID(), nullable=True))
    op.add_column("user_feedback", sa.Column("rollout_id", sa.UUID(), nullable=True))
    op.add_column("user_feedback", sa.Column("arm", sa.Text(), nullable=True))
    op.add_column("user_feedback", sa.Column("rejected_arm", sa.Text(), nullable=True))
    op.add_column("user_feedback", sa.Column("side", sa.Integer(), nullable=True))
    op.add_column("user_feedback", sa.Column("subject", sa.Text(), nullable=True))
    op.execute(SUBJECT)
    op.alter_column("user_feedback", "subject", nullable=False)
    op.add_column("user_feedback", sa.Column("by_token", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("user_feedback", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index(
        op.f("uq_user_feedback_latest"), table_name="user_feedback", postgresql_where="(superseded_at IS NULL)"
    )
    op.drop_index(
        op.f("ix_user_feedback_uncounted"),
        table_name="user_feedback",
        postgresql_where="(counted_in_update_id IS NULL)",
    )
    op.create_index(
        "ix_user_feedback_uncounted",
        "user_feedback",
        ["tenant_id", "stable_diffusion_id"],
        unique=False,
        postgresql_where=sa.text("counted_in_update_id IS NULL AND superseded_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_index("ix_user_feedback_listed", "user_feedback", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_user_feedback_live",
        "user_feedback",
        ["rollout_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("rollout_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_user_feedback_rejected_adapter_id"), "user_feedback", ["rejected_adapter_id"], unique=False
    )
    op.create_index(
        "uq_user_feedback_current",
        "user_feedback",
        ["tenant_id", "user_ref", "subject"],
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_foreign_key(
        op.f("fk_user_feedback_rollout_id_rollout"), "user_feedback", "rollout", ["rollout_id"], ["id"]
    )
    op.create_foreign_key(
        op.f("fk_user_feedback_rejected_adapter_id_adapter"),
        "user_feedback",
        "adapter",
        ["rejected_adapter_id"],
        ["id"],
    )
    for table, name, new, _ in CHANGED:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, new)
    for table, name, condition in ADDED:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)


def downgrade() -> None:
    for table, name, _ in ADDED:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    for table, name, _, old in CHANGED:
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
        # Rows of the newer kinds stay as they are; new ones are refused again.
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, old, postgresql_not_valid=True)
    op.drop_constraint(op.f("fk_user_feedback_rejected_adapter_id_adapter"), "user_feedback", type_="foreignkey")
    op.drop_constraint(op.f("fk_user_feedback_rollout_id_rollout"), "user_feedback", type_="foreignkey")
    op.drop_index(
        "uq_user_feedback_current",
        table_name="user_feedback",
        postgresql_where=sa.text("superseded_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.drop_index(op.f("ix_user_feedback_rejected_adapter_id"), table_name="user_feedback")
    op.drop_index(
        "ix_user_feedback_live", table_name="user_feedback", postgresql_where=sa.text("rollout_id IS NOT NULL")
    )
    op.drop_index("ix_user_feedback_listed", table_name="user_feedback")
    op.drop_index(
        "ix_user_feedback_uncounted",
        table_name="user_feedback",
        postgresql_where=sa.text("counted_in_update_id IS NULL AND superseded_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_index(
        op.f("ix_user_feedback_uncounted"),
        "user_feedback",
        ["stable_diffusion_id"],
        unique=False,
        postgresql_where="(counted_in_update_id IS NULL)",
    )
    op.create_index(
        op.f("uq_user_feedback_latest"),
        "user_feedback",
        ["tenant_id", "user_ref", "image_id", "kind"],
        unique=True,
        postgresql_where="(superseded_at IS NULL)",
    )
    op.drop_column("user_feedback", "withdrawn_at")
    op.drop_column("user_feedback", "by_token")
    op.drop_column("user_feedback", "subject")
    op.drop_column("user_feedback", "side")
    op.drop_column("user_feedback", "rejected_arm")
    op.drop_column("user_feedback", "arm")
    op.drop_column("user_feedback", "rollout_id")
    op.drop_column("user_feedback", "rejected_adapter_id")
    op.drop_column("training_data", "image_sha256")
    op.drop_column("training_data", "position")
    op.drop_constraint(op.f("fk_model_update_replaces_update_id_model_update"), "model_update", type_="foreignkey")
    op.drop_index(op.f("ix_model_update_replaces_update_id"), table_name="model_update")
    op.drop_index("ix_model_update_listed", table_name="model_update")
    op.drop_index(
        "uq_model_update_in_flight",
        table_name="model_update",
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'awaiting_approval', 'canary')"),
    )
    op.create_index(
        op.f("uq_model_update_in_flight"),
        "model_update",
        ["stable_diffusion_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'canary')"),
    )
    op.drop_column("model_update", "clean_by")
    op.drop_column("model_update", "taken_back_at")
    op.drop_column("model_update", "decide_by")
    op.drop_column("model_update", "outcome_reason")
    op.drop_column("model_update", "report")
    op.drop_column("model_update", "trained")
    op.drop_column("model_update", "policy")
    op.drop_column("model_update", "trigger")
    op.drop_column("model_update", "replaces_update_id")
    op.drop_constraint(op.f("fk_artifact_rollout_id_rollout"), "artifact", type_="foreignkey")
    op.drop_index("ix_artifact_adapters", table_name="artifact")
    op.drop_index(op.f("ix_artifact_rollout_id"), table_name="artifact")
    op.drop_column("artifact", "arm")
    op.drop_column("artifact", "rollout_id")
    op.drop_column("artifact", "perceptual_hash")
    op.drop_index(
        "uq_adapter_serving", table_name="adapter", postgresql_where=sa.text("stage IN ('champion', 'canary')")
    )
    op.drop_index(op.f("ix_training_exclusion_feedback_id"), table_name="training_exclusion")
    op.drop_table("training_exclusion")
    op.drop_index(op.f("ix_transition_tenant_id"), table_name="transition")
    op.drop_index(op.f("ix_transition_model_update_id"), table_name="transition")
    op.drop_index("ix_transition_listed", table_name="transition")
    op.drop_index(op.f("ix_transition_adapter_id"), table_name="transition")
    op.drop_table("transition")
    op.drop_index("uq_rollout_running", table_name="rollout", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index(op.f("ix_rollout_tenant_id"), table_name="rollout")
    op.drop_index(op.f("ix_rollout_stable_diffusion_id"), table_name="rollout")
    op.drop_index(op.f("ix_rollout_model_update_id"), table_name="rollout")
    op.drop_index(op.f("ix_rollout_incumbent_id"), table_name="rollout")
    op.drop_index(op.f("ix_rollout_challenger_id"), table_name="rollout")
    op.drop_table("rollout")
    op.drop_table("update_policy")
