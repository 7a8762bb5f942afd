"""A model update as its owner sees it, with its training data and its report."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.link import Link
from api.view.job import ProgressView, progress_of
from api.view.report_page import ReportPage
from api.view.rollout import TransitionView, transition_view
from core.domain.evaluation import EvaluationReport, Verdict
from core.domain.feedback import FeedbackKind
from core.domain.model_update import ModelUpdateStatus, Split, TrainingRole, UpdateTrigger
from core.domain.preference import PreferenceReport
from core.infra.table import Transition
from core.services.update_account import Account, DataPage, Findings


class CountsView(BaseModel):
    """How much was chosen, and what the rules of selection left out."""

    rows: int
    train: int
    held_out: int
    excluded: int
    excluded_by: dict[str, int] = Field(description="rule → pieces of feedback that it left out")
    raters: int
    pairs: int
    likes: int
    dislikes: int
    flip_rate: float = Field(default=0.0, description="share of opinions that is believed to be mistaken")


class UpdateUrls(BaseModel):
    """Where the rest is."""

    model_config = ConfigDict(protected_namespaces=())

    self: str
    job: str | None
    training_data: str
    report: str | None
    model_card: str | None
    adapter: str | None


class ModelUpdateView(BaseModel):
    """One turn of the wheel. Follow the links, don't build them."""

    model_config = ConfigDict(protected_namespaces=())

    id: UUID
    model: str = Field(description="name of the base model")
    model_id: UUID
    status: ModelUpdateStatus
    trigger: UpdateTrigger
    reason: dict[str, Any] = Field(description="why it started: a sentence, and how things stood")
    triggered_by_feedback_id: UUID | None = Field(description="the newest label that made it due")
    counts: CountsView
    manifest_sha256: str | None = Field(description="digest of the frozen training data")
    job_id: UUID | None
    progress: ProgressView | None
    adapter_id: UUID | None
    adapter: str | None = Field(description="its reference: name@version")
    verdict: Verdict | None
    report: EvaluationReport | None
    outcome_reason: str | None
    decide_by: datetime | None = Field(description="when it is rejected if nobody approves it")
    taken_back_at: datetime | None = Field(description="when feedback of its training data was withdrawn")
    clean_by: datetime | None = Field(description="by when one without that feedback will have replaced it")
    replaces_update_id: UUID | None
    created_at: datetime
    completed_at: datetime | None
    transitions: list[TransitionView] = Field(description="oldest first; empty in lists")
    urls: UpdateUrls


def view(account: Account, link: Link, *, transitions: Sequence[Transition] = ()) -> ModelUpdateView:
    """An update as JSON."""
    update, job, adapter = account.update, account.job, account.adapter
    return ModelUpdateView(
        id=update.id,
        model=account.model.name,
        model_id=account.model.id,
        status=ModelUpdateStatus(update.status),
        trigger=UpdateTrigger(update.trigger),
        reason={name: value for name, value in update.reason.items() if name != "counts"},
        triggered_by_feedback_id=update.triggered_by_feedback_id,
        counts=CountsView.model_validate(update.reason["counts"]),
        manifest_sha256=update.manifest_sha256,
        job_id=update.job_id,
        progress=progress_of(job) if job else None,
        adapter_id=adapter.id if adapter else None,
        adapter=adapter.ref if adapter else None,
        verdict=Verdict.model_validate(update.verdict) if update.verdict else None,
        report=EvaluationReport.model_validate(update.report) if update.report else None,
        outcome_reason=update.outcome_reason,
        decide_by=update.decide_by,
        taken_back_at=update.taken_back_at,
        clean_by=update.clean_by,
        replaces_update_id=update.replaces_update_id,
        created_at=update.created_at,
        completed_at=update.completed_at,
        transitions=[transition_view(each) for each in transitions],
        urls=_urls(account, link),
    )


def _urls(account: Account, link: Link) -> UpdateUrls:
    update, adapter = account.update, account.adapter
    self = link.to(f"/api/model-updates/{update.id}")
    return UpdateUrls(
        self=self,
        job=link.job(update.job_id) if update.job_id else None,
        training_data=f"{self}/training-data",
        report=f"{self}/report" if update.report else None,
        model_card=f"{self}/model-card" if update.report else None,
        adapter=link.to(f"/api/adapters/{adapter.id}") if adapter else None,
    )


class RowView(BaseModel):
    """A frozen picture that trains or is held out. The two of a pair have one `position`."""

    position: int
    feedback_id: UUID
    kind: FeedbackKind
    image_id: UUID
    prompt: str = Field(description="empty where the feedback was withdrawn")
    role: TrainingRole
    split: Split
    weight: float
    is_withdrawn: bool


class ExclusionView(BaseModel):
    """Feedback that was left out, and by which rule."""

    feedback_id: UUID
    kind: FeedbackKind
    rule: str
    detail: str
    is_withdrawn: bool


class TrainingDataView(BaseModel):
    """Rows in their order, then exclusions. Send `next_cursor` as `cursor` for the rest; it is null at the end."""

    rows: list[RowView]
    exclusions: list[ExclusionView]
    next_cursor: str | None


def data_view(page: DataPage) -> TrainingDataView:
    """A page of training data as JSON."""
    return TrainingDataView(
        rows=[
            RowView(
                position=row.position,
                feedback_id=row.feedback_id,
                kind=FeedbackKind(said.kind),
                image_id=row.image_id,
                prompt=row.prompt,
                role=TrainingRole(row.role),
                split=Split(row.split),
                weight=row.weight,
                is_withdrawn=said.withdrawn_at is not None,
            )
            for row, said in page.rows
        ],
        exclusions=[
            ExclusionView(
                feedback_id=row.feedback_id,
                kind=FeedbackKind(said.kind),
                rule=row.rule,
                detail=row.detail,
                is_withdrawn=said.withdrawn_at is not None,
            )
            for row, said in page.exclusions
        ],
        next_cursor=page.next_cursor,
    )


def report_page(account: Account, findings: Findings, sheet_png: bytes | None) -> ReportPage:
    """A report as the page that `render` makes of it."""
    update, adapter, training = account.update, account.adapter, findings.training
    name = adapter.ref if adapter else f"no adapter, {update.status}"
    course = (
        f"{training.steps} steps, step {training.best_step} is kept; {training.stop_reason}" if training else "none"
    )
    facts = [
        ("started because", str(update.reason.get("because", ""))),
        ("training data", update.manifest_sha256 or ""),
        ("training", course),
        ("created", f"{update.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return ReportPage(
        title=f"Model update: {name}",
        model=account.model.name,
        status=update.status,
        facts=facts,
        outcome_reason=update.outcome_reason,
        report=findings.evaluation,
        verdict=findings.verdict,
        losses=findings.losses,
        looks=[(look.step, look.accuracy) for look in training.looks if look.accuracy is not None] if training else [],
        sheet_png=sheet_png,
    )


class ReportView(BaseModel):
    """What was found out about an update's candidate; null where it did not come so far."""

    update: ModelUpdateView
    training: PreferenceReport | None
    evaluation: EvaluationReport | None
    verdict: Verdict | None
    contact_sheet: str | None = Field(description="where the pictures of both sides are")


def report_view(account: Account, findings: Findings, link: Link, *, contact_sheet: str | None) -> ReportView:
    """A report as JSON."""
    return ReportView(
        update=view(account, link),
        training=findings.training,
        evaluation=findings.evaluation,
        verdict=findings.verdict,
        contact_sheet=contact_sheet,
    )
