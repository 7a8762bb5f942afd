"""A bench for the learning loop on the real Postgres: opinions without pictures, updates without training."""

import hashlib
import io
from typing import Any
from uuid import UUID, uuid4

from PIL import Image
from sqlalchemy import text

from core.domain.adapter import AdapterManifest
from core.domain.base_model import ModelFamily, ModelStatus
from core.domain.evaluation import Decision, EvaluationReport, Verdict
from core.domain.feedback import FeedbackKind
from core.domain.generation import GenerationDefaults
from core.domain.job import JobKind, JobStatus
from core.domain.outcome import Outcome, Output
from core.domain.policy import SelectionPolicy, UpdatePolicy
from core.domain.preference import HeldOutLook, PreferenceReport
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import model_update as update_rows
from core.infra.settings import Settings
from core.infra.table import Adapter, Artifact, Job, ModelUpdate, StableDiffusion, Transition, UserFeedback
from core.infra.task_queue import TaskQueue
from core.services import model_update as updates
from core.services import policy as policies
from core.services import run as runs
from core.services import upkeep
from core.services import withdrawal as withdrawals
from core.services.clean_retrain import awaited, retrain_clean
from core.services.limit import set_limits
from core.services.run import Claim
from core.services.settlement import reconcile
from core.services.tenant import create_tenant
from core.services.terms import Terms
from core.services.withdrawal import Withdrawal

SMALL: dict[str, Any] = {
    "min_new_labels": 4,
    "many_new_labels": 6,
    "min_users": 2,
    "cooldown_hours": 0.0,
    "min_pairs": 4,
    "min_likes": 4,
    "approval_below": 0,
    "selection": SelectionPolicy(max_user_share=1.0, held_out_share=0.2),
}
"""Fields of a policy that a handful of opinions satisfies."""

REPORT = EvaluationReport(
    champion=None, held_out_rows=3, training_rows=9, raters=2, accuracy=None, champion_accuracy=None, serves=True
)
TRAINING_REPORT = PreferenceReport(
    steps=4,
    best_step=2,
    first_loss=0.7,
    last_loss=0.6,
    final_beta=100.0,
    stop_reason="all 4 steps were taken",
    looks=(HeldOutLook(step=2, accuracy=0.75, margin=0.1, chosen_error_ratio=1.0),),
    resumed_from_step=0,
    execution_seconds=1.0,
)


class LearningBench:
    """A tenant, a base model that is ready, and the verbs of the loop, each in its own transaction.

    With a store, images are real pictures.
    """

    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        settings: Settings,
        *,
        store: ObjectStore | None = None,
        source: str = "/nowhere",
        **policy: Any,
    ) -> None:
        self.database, self.queue, self.store = database, queue, store
        self.settings = settings.model_copy(update={"update_policy": UpdatePolicy(**(SMALL | policy))})
        with database.transaction() as session:
            self.tenant_id = create_tenant(session, name=f"tenant-{uuid4().hex[:8]}").id
            model = StableDiffusion(
                tenant_id=self.tenant_id,
                name="model",
                source=source,
                status=ModelStatus.READY,
                family=ModelFamily.SD1,
                options={},
                defaults=GenerationDefaults(width=64, height=64, steps=2).model_dump(mode="json"),
                modules={"unet.mid.to_q": [32, 32]},
            )
            session.add(model)
            session.flush()
            self.model_id = model.id
        self.pair = {"tenant_id": self.tenant_id, "model_id": self.model_id}

    def draw(self, session: Any, prompt: str, *, content: str | None = None) -> Artifact:
        """An image that a finished job drew; the same `content` has the same digest."""
        job = Job(
            tenant_id=self.tenant_id,
            kind=JobKind.GENERATION,
            spec={},
            plan={"prompt": prompt},
            base_model_id=self.model_id,
        )
        session.add(job)
        session.flush()
        name = f"job/{job.id}/1/output/0.png"
        body = _picture(content or name)
        if self.store is not None:
            self.store.put(name, body, content_type="image/png")
        image = Artifact(
            tenant_id=self.tenant_id,
            job_id=job.id,
            claim_epoch=1,
            position=0,
            type="image",
            object_key=name,
            content_type="image/png",
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        session.add(image)
        session.flush()
        session.execute(
            text("UPDATE job SET status = 'succeeded', completed_at = now() WHERE id = :id"), {"id": job.id}
        )
        return image

    def choose(self, *, user: str = "anna", prompt: str = "a star", content: str | None = None) -> UUID:
        """A user prefers one new image to another."""
        with self.database.transaction() as session:
            sides = [content and f"{content} {side}" for side in ("chosen", "rejected")]
            chosen, rejected = (self.draw(session, prompt, content=side) for side in sides)
            row = self._said(chosen, user, kind=FeedbackKind.CHOICE, rejected_image_id=rejected.id)
            session.add(row)
            session.flush()
            return row.id

    def press(self, *, liked: bool, user: str = "anna", prompt: str = "a star") -> UUID:
        """A user likes a new image, or does not."""
        with self.database.transaction() as session:
            row = self._said(self.draw(session, prompt), user, kind=FeedbackKind.THUMB, liked=liked)
            session.add(row)
            session.flush()
            return row.id

    def _said(self, image: Artifact, user: str, **values: Any) -> UserFeedback:
        return UserFeedback(
            tenant_id=self.tenant_id,
            stable_diffusion_id=self.model_id,
            image_id=image.id,
            user_ref=user,
            subject=f"subject:{uuid4()}",
            **values,
        )

    def choose_many(self, count: int, *, users: int = 3) -> list[UUID]:
        """So many choices, by these many users in turn, on prompts of their own."""
        return [self.choose(user=f"user-{n % users}", prompt=f"star number {n}") for n in range(count)]

    def consider(self) -> ModelUpdate | None:
        with self.database.transaction() as session:
            return updates.consider(session, **self.pair, queue=self.queue, settings=self.settings)

    def trigger(self) -> ModelUpdate:
        with self.database.transaction() as session:
            terms = Terms(tenant_id=self.tenant_id)
            return updates.trigger(session, **self.pair, terms=terms, queue=self.queue, settings=self.settings)

    def look(self) -> policies.Look:
        with self.database.transaction() as session:
            return policies.look(session, **self.pair, default=self.settings.update_policy)

    def claim(self) -> Claim:
        with self.database.transaction() as session:
            claim = runs.claim_next(session, kinds=[JobKind.MODEL_UPDATE], worker_id="worker", lease_seconds=600)
        assert claim is not None
        return claim

    def finish(self, claim: Claim, decision: Decision, reason: str = "Because.") -> Adapter:
        """End an update's job with this verdict; the adapter as it is then."""
        with self.database.transaction() as session:
            runs.finish(session, claim, outcome_of(claim, decision, reason))
        return self.adapter(UUID(claim.plan["update_id"]))

    def champion(self) -> Adapter:
        """Opinions, an update, and its promotion."""
        self.choose_many(6)
        update = self.consider()
        assert update is not None
        return self.finish(self.claim(), Decision.PROMOTE)

    def update(self, update_id: UUID) -> ModelUpdate:
        with self.database.transaction() as session:
            return updates.get(session, tenant_id=self.tenant_id, update_id=update_id)

    def adapter(self, update_id: UUID) -> Adapter:
        with self.database.transaction() as session:
            adapter = update_rows.adapter_of(session, update_id=update_id)
        assert adapter is not None
        return adapter

    def stages(self, adapter_id: UUID) -> list[tuple[str | None, str, str]]:
        with self.database.transaction() as session:
            found = session.query(Transition).filter_by(adapter_id=adapter_id).order_by(Transition.created_at)
            return [(each.before, each.after, each.actor) for each in found]

    def job(self, job_id: UUID | None) -> Job:
        with self.database.transaction() as session:
            return session.get_one(Job, job_id)

    def withdraw(self, user: str) -> Withdrawal:
        with self.database.transaction() as session:
            return withdrawals.withdraw_user(session, tenant_id=self.tenant_id, user_ref=user)

    def quota(self, seconds: float, *, whose: str) -> None:
        """What a day's jobs may run for, by the settings or by the tenant's own limit."""
        if whose == "settings":
            self.settings = self.settings.model_copy(update={"max_gpu_seconds_per_day": seconds})
        else:
            with self.database.transaction() as session:
                set_limits(session, tenant_id=self.tenant_id, changes={"gpu_seconds_per_day": seconds})

    def upkeep(self) -> None:
        """What the clockwork does about updates."""
        with self.database.transaction() as session:
            upkeep.sweep(session, stall_seconds=900)
        with self.database.transaction() as session:
            reconcile(session)
        with self.database.transaction() as session:
            found = awaited(session)
        for update_id in found:
            with self.database.transaction() as session:
                retrain_clean(session, update_id=update_id, queue=self.queue, settings=self.settings)

    def execute(self, statement: str, **values: Any) -> None:
        with self.database.transaction() as session:
            session.execute(text(statement), values)

    def ends(self, job_id: UUID | None, status: JobStatus, message: str | None = None) -> None:
        """A job that ended in some way without a verdict."""
        self.execute(
            "UPDATE job SET status = :status, error_message = :message, completed_at = now(), lease_expires_at = NULL "
            "WHERE id = :id",
            id=job_id,
            status=status,
            message=message,
        )


def _picture(content: str) -> bytes:
    """A small picture in a color of its own."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), tuple(hashlib.sha256(content.encode()).digest()[:3])).save(file, "PNG")
    return file.getvalue()


def outcome_of(claim: Claim, decision: Decision, reason: str = "Because.") -> Outcome:
    """What a worker hands over whose verdict is this."""
    verdict = Verdict(decision=decision, reasons=(reason,), gates=())
    return Outcome(outputs=[file_of(claim)], adapter=_manifest(claim), report=REPORT, verdict=verdict)


def file_of(claim: Claim) -> Output:
    """The candidate's file, as if it were stored."""
    return Output(
        type="adapter",
        object_key=f"job/{claim.job_id}/{claim.claim_epoch}/output/adapter.safetensors",
        content_type="application/octet-stream",
        size_bytes=1,
        sha256="0" * 64,
    )


def _manifest(claim: Claim) -> AdapterManifest:
    plan = claim.plan
    return AdapterManifest(
        name=plan["name"],
        model=plan["base_model"],
        version=plan["adapter_version"],
        family=ModelFamily.SD1,
        base_model_id=str(claim.model.id),
        rank=plan["spec"]["rank"],
        alpha=plan["alpha"],
        target_modules=tuple(plan["spec"]["target_modules"]),
        sha256="0" * 64,
        size_bytes=1,
    )
