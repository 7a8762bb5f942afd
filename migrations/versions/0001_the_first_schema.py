"""The first schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "worker_presence",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('generation', 'training')", name=op.f("ck_worker_presence_kind_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker_presence")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_api_key_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_api_key_key_sha256")),
    )
    op.create_index(op.f("ix_api_key_tenant_id"), "api_key", ["tenant_id"], unique=False)
    op.create_table(
        "dataset",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status <> 'ready' OR digest IS NOT NULL", name=op.f("ck_dataset_ready_has_digest")),
        sa.CheckConstraint("status IN ('open', 'ready')", name=op.f("ck_dataset_status_known")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_dataset_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
    )
    op.create_index(op.f("ix_dataset_tenant_id"), "dataset", ["tenant_id"], unique=False)
    op.create_table(
        "stable_diffusion",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("shared", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("status", sa.Text(), server_default="checking", nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("family", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("defaults", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "modules", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("family IN ('sd1', 'sd2', 'sdxl')", name=op.f("ck_stable_diffusion_family_known")),
        sa.CheckConstraint(
            "status <> 'ready' OR family IS NOT NULL", name=op.f("ck_stable_diffusion_ready_has_family")
        ),
        sa.CheckConstraint("status IN ('checking', 'failed', 'ready')", name=op.f("ck_stable_diffusion_status_known")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_stable_diffusion_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stable_diffusion")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_stable_diffusion_tenant_id_name")),
    )
    op.create_index(op.f("ix_stable_diffusion_tenant_id"), "stable_diffusion", ["tenant_id"], unique=False)
    op.create_table(
        "dataset_image",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("dataset_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_image_dataset_id_dataset"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_image")),
        sa.UniqueConstraint("dataset_id", "position", name=op.f("uq_dataset_image_dataset_id_position")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("plan", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("base_model_id", sa.UUID(), nullable=False),
        sa.Column("dataset_id", sa.UUID(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("work_units", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("cost_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_after", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claim_epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("interrupt_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("progress_step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_steps", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_message", sa.Text(), server_default="", nullable=False),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "warnings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("execution_seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(status = 'running') = (lease_expires_at IS NOT NULL)", name=op.f("ck_job_running_has_lease")
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled', 'expired')) = (completed_at IS NOT NULL)",
            name=op.f("ck_job_terminal_has_end"),
        ),
        sa.CheckConstraint("kind IN ('generation', 'registration', 'training')", name=op.f("ck_job_kind_known")),
        sa.CheckConstraint(
            "status IN ('canceled', 'expired', 'failed', 'queued', 'running', 'succeeded')",
            name=op.f("ck_job_status_known"),
        ),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["stable_diffusion.id"], name=op.f("fk_job_base_model_id_stable_diffusion")
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_job_dataset_id_dataset")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_job_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name=op.f("uq_job_tenant_id_idempotency_key")),
    )
    op.create_index(op.f("ix_job_base_model_id"), "job", ["base_model_id"], unique=False)
    op.create_index(op.f("ix_job_dataset_id"), "job", ["dataset_id"], unique=False)
    op.create_index(
        "ix_job_deadline",
        "job",
        ["deadline_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_job_leased", "job", ["lease_expires_at"], unique=False, postgresql_where=sa.text("status = 'running'")
    )
    op.create_index("ix_job_listed", "job", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_job_ready",
        "job",
        ["kind", "priority", "created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "work_rate",
        sa.Column("base_model_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seconds_per_unit", sa.Double(), nullable=False),
        sa.CheckConstraint("kind IN ('generation', 'registration', 'training')", name=op.f("ck_work_rate_kind_known")),
        sa.ForeignKeyConstraint(
            ["base_model_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_work_rate_base_model_id_stable_diffusion"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("base_model_id", "kind", name=op.f("pk_work_rate")),
    )
    op.create_table(
        "artifact",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("claim_epoch", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column(
            "adapters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_artifact_size_not_negative")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_artifact_job_id_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_artifact_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("job_id", "type", "position", name=op.f("uq_artifact_job_id_type_position")),
        sa.UniqueConstraint("object_key", name=op.f("uq_artifact_object_key")),
    )
    op.create_index(op.f("ix_artifact_tenant_id"), "artifact", ["tenant_id"], unique=False)
    op.create_table(
        "checkpoint",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("claim_epoch", sa.Integer(), nullable=False),
        sa.Column("object_prefix", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_checkpoint_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step", "claim_epoch", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "model_update",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("stable_diffusion_id", sa.UUID(), nullable=False),
        sa.Column("triggered_by_feedback_id", sa.UUID(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("status", sa.Text(), server_default="planned", nullable=False),
        sa.Column(
            "reason", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("manifest_sha256", sa.Text(), nullable=True),
        sa.Column("verdict", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('canary', 'evaluating', 'failed', 'planned', 'promoted', 'rejected', 'training')",
            name=op.f("ck_model_update_status_known"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_model_update_job_id_job")),
        sa.ForeignKeyConstraint(
            ["stable_diffusion_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_model_update_stable_diffusion_id_stable_diffusion"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_model_update_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_update")),
        sa.UniqueConstraint("job_id", name=op.f("uq_model_update_job_id")),
    )
    op.create_index(op.f("ix_model_update_stable_diffusion_id"), "model_update", ["stable_diffusion_id"], unique=False)
    op.create_index(op.f("ix_model_update_tenant_id"), "model_update", ["tenant_id"], unique=False)
    op.create_index(
        op.f("ix_model_update_triggered_by_feedback_id"), "model_update", ["triggered_by_feedback_id"], unique=False
    )
    op.create_index(
        "uq_model_update_in_flight",
        "model_update",
        ["stable_diffusion_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'canary')"),
    )
    op.create_table(
        "training_metric",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.Column("gradient_norm", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_training_metric_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("pk_training_metric")),
    )
    op.create_table(
        "adapter",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("base_model_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("model_update_id", sa.UUID(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("stage", sa.Text(), server_default="available", nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("kohya_object_key", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "stage IN ('available', 'canary', 'candidate', 'champion', 'rejected', 'retired')",
            name=op.f("ck_adapter_stage_known"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_adapter_version_positive")),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["stable_diffusion.id"], name=op.f("fk_adapter_base_model_id_stable_diffusion")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_adapter_job_id_job"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["model_update_id"], ["model_update.id"], name=op.f("fk_adapter_model_update_id_model_update")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_adapter_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter")),
        sa.UniqueConstraint("job_id", name=op.f("uq_adapter_job_id")),
        sa.UniqueConstraint("tenant_id", "name", "version", name=op.f("uq_adapter_tenant_id_name_version")),
    )
    op.create_index(op.f("ix_adapter_base_model_id"), "adapter", ["base_model_id"], unique=False)
    op.create_index(op.f("ix_adapter_model_update_id"), "adapter", ["model_update_id"], unique=False)
    op.create_index(op.f("ix_adapter_sha256"), "adapter", ["sha256"], unique=False)
    op.create_index(op.f("ix_adapter_tenant_id"), "adapter", ["tenant_id"], unique=False)
    op.create_table(
        "user_feedback",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("stable_diffusion_id", sa.UUID(), nullable=False),
        sa.Column("image_id", sa.UUID(), nullable=False),
        sa.Column("rejected_image_id", sa.UUID(), nullable=True),
        sa.Column("adapter_id", sa.UUID(), nullable=True),
        sa.Column("user_ref", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("liked", sa.Boolean(), nullable=True),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column(
            "tags", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("counted_in_update_id", sa.UUID(), nullable=True),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(kind = 'choice') = (rejected_image_id IS NOT NULL)", name=op.f("ck_user_feedback_choice_has_loser")
        ),
        sa.CheckConstraint("(kind = 'rating') = (rating IS NOT NULL)", name=op.f("ck_user_feedback_rating_has_value")),
        sa.CheckConstraint("(kind = 'thumb') = (liked IS NOT NULL)", name=op.f("ck_user_feedback_thumb_has_value")),
        sa.CheckConstraint(
            "kind IN ('choice', 'comment', 'rating', 'thumb')", name=op.f("ck_user_feedback_kind_known")
        ),
        sa.CheckConstraint("rating IS NULL OR rating BETWEEN 1 AND 5", name=op.f("ck_user_feedback_rating_in_range")),
        sa.CheckConstraint("rejected_image_id <> image_id", name=op.f("ck_user_feedback_choice_of_two")),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name=op.f("fk_user_feedback_adapter_id_adapter")),
        sa.ForeignKeyConstraint(["image_id"], ["artifact.id"], name=op.f("fk_user_feedback_image_id_artifact")),
        sa.ForeignKeyConstraint(
            ["rejected_image_id"], ["artifact.id"], name=op.f("fk_user_feedback_rejected_image_id_artifact")
        ),
        sa.ForeignKeyConstraint(
            ["stable_diffusion_id"],
            ["stable_diffusion.id"],
            name=op.f("fk_user_feedback_stable_diffusion_id_stable_diffusion"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_user_feedback_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_feedback")),
    )
    op.create_index(op.f("ix_user_feedback_adapter_id"), "user_feedback", ["adapter_id"], unique=False)
    op.create_index(
        op.f("ix_user_feedback_counted_in_update_id"), "user_feedback", ["counted_in_update_id"], unique=False
    )
    op.create_index(op.f("ix_user_feedback_image_id"), "user_feedback", ["image_id"], unique=False)
    op.create_index(op.f("ix_user_feedback_rejected_image_id"), "user_feedback", ["rejected_image_id"], unique=False)
    op.create_index(op.f("ix_user_feedback_tenant_id"), "user_feedback", ["tenant_id"], unique=False)
    op.create_index(
        "ix_user_feedback_uncounted",
        "user_feedback",
        ["stable_diffusion_id"],
        unique=False,
        postgresql_where=sa.text("counted_in_update_id IS NULL"),
    )
    op.create_index(
        "uq_user_feedback_latest",
        "user_feedback",
        ["tenant_id", "user_ref", "image_id", "kind"],
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_table(
        "training_data",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("model_update_id", sa.UUID(), nullable=False),
        sa.Column("feedback_id", sa.UUID(), nullable=False),
        sa.Column("image_id", sa.UUID(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "role IN ('chosen', 'disliked', 'liked', 'rejected')", name=op.f("ck_training_data_role_known")
        ),
        sa.CheckConstraint("split IN ('held_out', 'train')", name=op.f("ck_training_data_split_known")),
        sa.CheckConstraint("weight > 0", name=op.f("ck_training_data_weight_positive")),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["user_feedback.id"], name=op.f("fk_training_data_feedback_id_user_feedback")
        ),
        sa.ForeignKeyConstraint(["image_id"], ["artifact.id"], name=op.f("fk_training_data_image_id_artifact")),
        sa.ForeignKeyConstraint(
            ["model_update_id"],
            ["model_update.id"],
            name=op.f("fk_training_data_model_update_id_model_update"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_data")),
        sa.UniqueConstraint(
            "model_update_id", "feedback_id", "role", name=op.f("uq_training_data_model_update_id_feedback_id_role")
        ),
    )
    op.create_index(op.f("ix_training_data_feedback_id"), "training_data", ["feedback_id"], unique=False)
    op.create_index(op.f("ix_training_data_image_id"), "training_data", ["image_id"], unique=False)
    # The learning chain is a ring of references, so these two come after the tables.
    op.create_foreign_key(
        op.f("fk_model_update_triggered_by_feedback_id_user_feedback"),
        "model_update",
        "user_feedback",
        ["triggered_by_feedback_id"],
        ["id"],
    )
    op.create_foreign_key(
        op.f("fk_user_feedback_counted_in_update_id_model_update"),
        "user_feedback",
        "model_update",
        ["counted_in_update_id"],
        ["id"],
    )


def downgrade() -> None:
    op.drop_constraint(
        op.f("fk_model_update_triggered_by_feedback_id_user_feedback"), "model_update", type_="foreignkey"
    )
    op.drop_constraint(op.f("fk_user_feedback_counted_in_update_id_model_update"), "user_feedback", type_="foreignkey")
    op.drop_index(op.f("ix_training_data_image_id"), table_name="training_data")
    op.drop_index(op.f("ix_training_data_feedback_id"), table_name="training_data")
    op.drop_table("training_data")
    op.drop_index(
        "uq_user_feedback_latest", table_name="user_feedback", postgresql_where=sa.text("superseded_at IS NULL")
    )
    op.drop_index(
        "ix_user_feedback_uncounted",
        table_name="user_feedback",
        postgresql_where=sa.text("counted_in_update_id IS NULL"),
    )
    op.drop_index(op.f("ix_user_feedback_tenant_id"), table_name="user_feedback")
    op.drop_index(op.f("ix_user_feedback_rejected_image_id"), table_name="user_feedback")
    op.drop_index(op.f("ix_user_feedback_image_id"), table_name="user_feedback")
    op.drop_index(op.f("ix_user_feedback_counted_in_update_id"), table_name="user_feedback")
    op.drop_index(op.f("ix_user_feedback_adapter_id"), table_name="user_feedback")
    op.drop_table("user_feedback")
    op.drop_index(op.f("ix_adapter_tenant_id"), table_name="adapter")
    op.drop_index(op.f("ix_adapter_sha256"), table_name="adapter")
    op.drop_index(op.f("ix_adapter_model_update_id"), table_name="adapter")
    op.drop_index(op.f("ix_adapter_base_model_id"), table_name="adapter")
    op.drop_table("adapter")
    op.drop_table("training_metric")
    op.drop_index(
        "uq_model_update_in_flight",
        table_name="model_update",
        postgresql_where=sa.text("status IN ('planned', 'training', 'evaluating', 'canary')"),
    )
    op.drop_index(op.f("ix_model_update_triggered_by_feedback_id"), table_name="model_update")
    op.drop_index(op.f("ix_model_update_tenant_id"), table_name="model_update")
    op.drop_index(op.f("ix_model_update_stable_diffusion_id"), table_name="model_update")
    op.drop_table("model_update")
    op.drop_table("checkpoint")
    op.drop_index(op.f("ix_artifact_tenant_id"), table_name="artifact")
    op.drop_table("artifact")
    op.drop_table("work_rate")
    op.drop_index("ix_job_ready", table_name="job", postgresql_where=sa.text("status = 'queued'"))
    op.drop_index("ix_job_listed", table_name="job")
    op.drop_index("ix_job_leased", table_name="job", postgresql_where=sa.text("status = 'running'"))
    op.drop_index("ix_job_deadline", table_name="job", postgresql_where=sa.text("status IN ('queued', 'running')"))
    op.drop_index(op.f("ix_job_dataset_id"), table_name="job")
    op.drop_index(op.f("ix_job_base_model_id"), table_name="job")
    op.drop_table("job")
    op.drop_table("dataset_image")
    op.drop_index(op.f("ix_stable_diffusion_tenant_id"), table_name="stable_diffusion")
    op.drop_table("stable_diffusion")
    op.drop_index(op.f("ix_dataset_tenant_id"), table_name="dataset")
    op.drop_table("dataset")
    op.drop_index(op.f("ix_api_key_tenant_id"), table_name="api_key")
    op.drop_table("api_key")
    op.drop_table("worker_presence")
    op.drop_table("tenant")
