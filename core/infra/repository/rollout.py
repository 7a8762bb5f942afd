"""Queries on rollouts: what serves, what runs, what people said, how the jobs of each arm went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text
from sqlalchemy.orm import Session, aliased, joinedload

from core.domain.adapter import AdapterStage
from core.domain.feedback import FeedbackKind
from core.domain.job import TERMINAL, JobKind, JobStatus
from core.domain.rollout import Arm
from core.infra.repository.feedback import CURRENT
from core.infra.repository.page import newest_first
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, Rollout, Transition, UserFeedback

_MAX_OPINIONS, _MAX_JOBS, _MAX_RECORDED = 50_000, 2_000, 2_000
_LEARNED = (FeedbackKind.THUMB, FeedbackKind.RATING, FeedbackKind.CHOICE)

# As text, because every submit runs it and composing it costs more than sending it. Adapters are locked by id alone: a
# lock checks conditions again, and a promotion that commits meanwhile would leave no champion.
_SERVING = text(
    """
    WITH serves AS MATERIALIZED (
      SELECT adapter.id AS adapter_id, rollout.id AS rollout_id, kind, share, challenger_id, incumbent_id
      FROM adapter LEFT JOIN rollout
        ON rollout.tenant_id = :tenant_id AND stable_diffusion_id = :model_id AND ended_at IS NULL
      WHERE adapter.tenant_id = :tenant_id AND base_model_id = :model_id
        AND (stage = 'champion' OR adapter.id IN (challenger_id, incumbent_id))
    )
    SELECT serves.*, id, name, version, sha256, object_key FROM serves JOIN adapter ON id = adapter_id
    FOR KEY SHARE OF adapter
    """
)


def serving(session: Session, *, tenant_id: UUID, model_id: UUID) -> Sequence[Any]:
    """A row for the champion and for each adapter of the running rollout, if any; they stay until the commit."""
    return session.execute(_SERVING, {"tenant_id": tenant_id, "model_id": model_id}).all()


def running(session: Session, *, tenant_id: UUID, model_id: UUID) -> Rollout | None:
    """The rollout that runs now, locked."""
    query = select(Rollout).where(
        Rollout.tenant_id == tenant_id, Rollout.stable_diffusion_id == model_id, Rollout.ended_at.is_(None)
    )
    return session.scalars(query.with_for_update(), execution_options={"populate_existing": True}).one_or_none()


def latest(session: Session, *, tenant_id: UUID, model_id: UUID) -> Rollout | None:
    """The rollout that runs, or else the last."""
    query = (
        select(Rollout)
        .where(Rollout.tenant_id == tenant_id, Rollout.stable_diffusion_id == model_id)
        .options(joinedload(Rollout.challenger), joinedload(Rollout.incumbent))
        .order_by(Rollout.ended_at.is_(None).desc(), Rollout.started_at.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def all_running(session: Session) -> Sequence[tuple[UUID, UUID]]:
    """(tenant, base model) of every rollout that runs."""
    query = select(Rollout.tenant_id, Rollout.stable_diffusion_id).where(Rollout.ended_at.is_(None))
    return [(tenant_id, model_id) for tenant_id, model_id in session.execute(query)]


def age_days(session: Session, rollout: Rollout) -> float:
    """How long a rollout has run, by the database's clock."""
    seconds = func.extract("epoch", func.now() - rollout.started_at)
    return float(session.scalar(select(seconds)) or 0.0) / 86_400


def names(session: Session, adapter: Adapter) -> bool:
    """Whether an adapter takes part in a rollout, or took."""
    part = exists().where(or_(Rollout.challenger_id == adapter.id, Rollout.incumbent_id == adapter.id))
    return bool(session.scalar(select(part)))


def champion(session: Session, *, tenant_id: UUID, model_id: UUID) -> Adapter | None:
    """The champion, held: nobody else moves it until the commit."""
    query = select(Adapter).where(
        Adapter.tenant_id == tenant_id, Adapter.base_model_id == model_id, Adapter.stage == AdapterStage.CHAMPION
    )
    return session.scalars(
        query.with_for_update(key_share=True), execution_options={"populate_existing": True}
    ).one_or_none()


def earlier_champion(session: Session, adapter: Adapter) -> Adapter | None:
    """The latest that was champion before this one last became it, and gave way without fault; held."""
    last = (
        select(func.max(Transition.created_at))
        .where(Transition.adapter_id == adapter.id, Transition.after == AdapterStage.CHAMPION)
        .scalar_subquery()
    )
    query = (
        select(Adapter)
        .join(Transition, Transition.adapter_id == Adapter.id)
        .outerjoin(ModelUpdate, ModelUpdate.id == Adapter.model_update_id)
        .where(
            Transition.tenant_id == adapter.tenant_id,
            Transition.stable_diffusion_id == adapter.base_model_id,
            Transition.after == AdapterStage.CHAMPION,
            Transition.created_at < last,
            Adapter.id != adapter.id,
            Adapter.stage == AdapterStage.RETIRED,
            ModelUpdate.taken_back_at.is_(None),
        )
        .order_by(Transition.created_at.desc())
        .limit(1)
    )
    return session.scalars(query.with_for_update(of=Adapter, key_share=True)).one_or_none()


@dataclass(frozen=True)
class SaidLive:
    """A current opinion on a rollout's pictures. `arms` are those of its request's pictures."""

    kind: FeedbackKind
    user_ref: str
    job_id: UUID
    rejected_job_id: UUID | None
    arm: Arm
    rejected_arm: Arm | None
    liked: bool | None
    rating: int | None
    arms: Sequence[str]


def count_said(session: Session, rollout: Rollout) -> tuple[int, datetime | None]:
    """How many current opinions there are on a rollout's pictures, and when the newest came."""
    query = select(func.count(), func.max(UserFeedback.created_at)).where(_of_rollout(rollout))
    count, newest = session.execute(query).one()
    return int(count), newest


def _of_rollout(rollout: Rollout) -> ColumnElement[bool]:
    is_told = UserFeedback.arm.is_not(None)
    return and_(UserFeedback.rollout_id == rollout.id, CURRENT, UserFeedback.kind.in_(_LEARNED), is_told)


def said_live(session: Session, rollout: Rollout) -> list[SaidLive]:
    """Current opinions on a rollout's pictures, oldest first."""
    rejected = aliased(Artifact)
    query = (
        select(
            UserFeedback.kind,
            UserFeedback.user_ref,
            Artifact.job_id,
            rejected.job_id.label("rejected_job_id"),
            UserFeedback.arm,
            UserFeedback.rejected_arm,
            UserFeedback.liked,
            UserFeedback.rating,
            Job.plan["assignment"]["arms"].label("arms"),
        )
        .join(Artifact, Artifact.id == UserFeedback.image_id)
        .join(Job, Job.id == Artifact.job_id)
        .outerjoin(rejected, rejected.id == UserFeedback.rejected_image_id)
        .where(_of_rollout(rollout))
        .order_by(UserFeedback.created_at, UserFeedback.id)
        .limit(_MAX_OPINIONS)
    )
    return [
        SaidLive(
            FeedbackKind(row.kind),
            row.user_ref,
            row.job_id,
            row.rejected_job_id,
            Arm(row.arm),
            Arm(row.rejected_arm) if row.rejected_arm else None,
            row.liked,
            row.rating,
            row.arms or (),
        )
        for row in session.execute(query)
    ]


def recorded_thumbs(session: Session, *, tenant_id: UUID, model_id: UUID, adapter_id: UUID | None) -> Sequence[Any]:
    """(user, liked) of the newest current thumbs on an adapter's pictures, or on the bare base's; newest first."""
    of_adapter = Artifact.adapters == [] if adapter_id is None else UserFeedback.adapter_id == adapter_id
    query = (
        select(UserFeedback.user_ref, UserFeedback.liked)
        .join(Artifact, Artifact.id == UserFeedback.image_id)
        .where(
            UserFeedback.tenant_id == tenant_id,
            UserFeedback.stable_diffusion_id == model_id,
            UserFeedback.kind == FeedbackKind.THUMB,
            CURRENT,
            of_adapter,
        )
        .order_by(UserFeedback.created_at.desc(), UserFeedback.id.desc())
        .limit(_MAX_RECORDED)
    )
    return session.execute(query).all()


@dataclass(frozen=True)
class DoneJobs:
    """Ended jobs of a rollout whose pictures are all the incumbent's, or not: how many, and how they went."""

    jobs: int
    failed: int
    seconds_per_unit: float | None


def done_jobs(session: Session, rollout: Rollout, *, with_challenger: bool, since: datetime) -> DoneJobs:
    """The latest ended jobs of a rollout that drew with the challenger, or without it."""
    plan = Job.plan["assignment"]
    has_challenger = plan["arms"].contains([Arm.CHALLENGER.value])
    latest_jobs = (
        select(Job.status, Job.execution_seconds, Job.work_units)
        .where(
            Job.tenant_id == rollout.tenant_id,
            Job.created_at >= since,
            Job.kind == JobKind.GENERATION,
            Job.status.in_(TERMINAL),
            plan["rollout_id"].as_string() == str(rollout.id),
            has_challenger if with_challenger else ~has_challenger,
        )
        .order_by(Job.created_at.desc())
        .limit(_MAX_JOBS)
        .subquery()
    )
    done = latest_jobs.c.status.in_([JobStatus.SUCCEEDED, JobStatus.FAILED])
    speed = latest_jobs.c.execution_seconds / func.nullif(latest_jobs.c.work_units, 0)
    row = session.execute(
        select(
            func.count().filter(done),
            func.count().filter(latest_jobs.c.status == JobStatus.FAILED),
            func.percentile_cont(0.5).within_group(speed).filter(latest_jobs.c.status == JobStatus.SUCCEEDED),
        )
    ).one()
    return DoneJobs(int(row[0]), int(row[1]), None if row[2] is None else float(row[2]))


def transitions(
    session: Session, adapter: Adapter, *, limit: int, cursor: str | None
) -> tuple[Sequence[Transition], str | None]:
    """What happened to an adapter, newest first."""
    query = select(Transition).where(Transition.adapter_id == adapter.id)
    return newest_first(session, query, Transition, limit=limit, cursor=cursor)
