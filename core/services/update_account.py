"""What can be told of model updates: the job, the adapter, the training data, the report, what happened when."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.domain.errors import InvalidInput, NotFound
from core.domain.evaluation import EvaluationReport, Verdict
from core.domain.preference import PreferenceReport
from core.infra.repository import model_update as updates
from core.infra.repository import training as trainings
from core.infra.table import (
    Adapter,
    Artifact,
    Job,
    ModelUpdate,
    StableDiffusion,
    TrainingData,
    TrainingExclusion,
    UserFeedback,
)

_MOST_METRICS = 10_000


@dataclass(frozen=True, kw_only=True)
class Account:
    """An update with what belongs to it; `adapter` is None before it is made and after its deletion."""

    update: ModelUpdate
    model: StableDiffusion
    job: Job | None
    adapter: Adapter | None


def tell(session: Session, found: Sequence[ModelUpdate]) -> list[Account]:
    """Updates with what belongs to them, in their order; three queries, however many they are."""
    models = updates.models_of(session, model_ids={each.stable_diffusion_id for each in found})
    jobs = updates.jobs_of(session, job_ids={each.job_id for each in found if each.job_id})
    adapters = updates.adapters_of(session, update_ids={each.id for each in found})
    return [
        Account(
            update=each,
            model=models[each.stable_diffusion_id],
            job=jobs.get(each.job_id) if each.job_id else None,
            adapter=adapters.get(each.id),
        )
        for each in found
    ]


@dataclass(frozen=True)
class DataPage:
    """A page of training data: rows that train or are held out; after the last of them, what was left out and why."""

    rows: Sequence[tuple[TrainingData, UserFeedback]]
    exclusions: Sequence[tuple[TrainingExclusion, UserFeedback]]
    next_cursor: str | None


def training_data(session: Session, update: ModelUpdate, *, limit: int, cursor: str | None) -> DataPage:
    """A page of what an update was made from. It is frozen, so every page stays what it was.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    offset = _read_offset(cursor)
    count = updates.count_rows(session, update_id=update.id)
    rows = updates.rows_from(session, update_id=update.id, offset=offset, limit=limit) if offset < count else []
    room, skipped = limit - len(rows), max(0, offset - count)
    # One more than is shown says whether there is a next page.
    more = updates.exclusions_from(session, update_id=update.id, offset=skipped, limit=room + 1)
    is_last = offset + len(rows) >= count and len(more) <= room
    next_cursor = None if is_last else _make_offset(offset + len(rows) + min(room, len(more)))
    return DataPage(rows, more[:room], next_cursor)


def _make_offset(offset: int) -> str:
    return base64.urlsafe_b64encode(f"row {offset}".encode()).decode()


def _read_offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        name, number = base64.urlsafe_b64decode(cursor.encode()).decode().split()
        offset = int(number)
    except ValueError as error:
        raise InvalidInput.of("cursor", "must be the next_cursor of an earlier page") from error
    if name != "row" or not 0 <= offset < 2**31:
        raise InvalidInput.of("cursor", "must be the next_cursor of an earlier page")
    return offset


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was found out about an update's candidate, as far as it came; `losses` are (step, loss)."""

    training: PreferenceReport | None
    evaluation: EvaluationReport | None
    verdict: Verdict | None
    losses: Sequence[tuple[int, float]]


def findings(session: Session, update: ModelUpdate) -> Findings:
    """What the training saw, what the evaluation found, and the verdict; None where it did not come so far."""
    metrics = (
        trainings.metrics_of(session, job_id=update.job_id, after_step=0, limit=_MOST_METRICS) if update.job_id else []
    )
    return Findings(
        training=PreferenceReport.model_validate(update.trained["report"]) if update.trained else None,
        evaluation=EvaluationReport.model_validate(update.report) if update.report else None,
        verdict=Verdict.model_validate(update.verdict) if update.verdict else None,
        losses=[(each.step, each.loss) for each in metrics],
    )


def file_of(session: Session, update: ModelUpdate, *, kind: str) -> Artifact:
    """A file that the update's job stored, by its type: `contact_sheet`, `model_card`.

    Raises:
        NotFound: it has none, or it was deleted because feedback behind it was withdrawn.
    """
    found = updates.artifact_of(session, job_id=update.job_id, kind=kind) if update.job_id else None
    if update.erased_at is not None:
        raise NotFound("The update's files were deleted: feedback that it was trained on was withdrawn.")
    if found is None:
        raise NotFound(f"The update has no {kind.replace('_', ' ')}; it is {update.status}.")
    return found


def sheet_of(session: Session, update: ModelUpdate) -> Artifact | None:
    """The contact sheet, where one was drawn and still is."""
    if update.erased_at is not None:
        return None
    return updates.artifact_of(session, job_id=update.job_id, kind="contact_sheet") if update.job_id else None
