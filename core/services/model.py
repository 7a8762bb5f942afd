"""Base models: register, find, show."""

import re
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.base_model import BaseModelSpec, ModelSource, ModelStatus, SourceKind, parse_source
from core.domain.errors import Conflict, InvalidInput, NotFound
from core.domain.job import JobKind
from core.domain.limit import UNLIMITED, Limits
from core.infra.repository import base_model as base_models
from core.infra.repository import lock
from core.infra.settings import Settings
from core.infra.table import StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import job as jobs
from core.services.job import Accepted, Submission
from core.services.terms import Terms

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FETCHED = re.compile(r"(s3|hub)-[0-9a-f]{32}", re.IGNORECASE)
"""What older versions called what they fetched, whoever's it was: those folders lay among the operator's."""


def request(session: Session, spec: BaseModelSpec, terms: Terms, *, settings: Settings, queue: TaskQueue) -> Accepted:
    """Register a base model of a tenant's own, from where tenants may take one.

    Raises:
        InvalidInput: the source cannot be used.
        Conflict: the tenant has a model of this name.
        QueueFull, QuotaExceeded: a limit of the tenant forbids it.
    """
    lock.take(session, "base model", terms.tenant_id, spec.name)  # the same request may be under way beside this one
    if replay := terms.find_replay(session):
        return replay
    _check_place(parse_source(_checked(spec).source), settings)
    return register(session, spec, tenant_id=terms.tenant_id, queue=queue, terms=terms, limits=settings.limits)


def register(
    session: Session,
    spec: BaseModelSpec,
    *,
    tenant_id: UUID,
    queue: TaskQueue,
    shared: bool = False,
    terms: Terms | None = None,
    limits: Limits = UNLIMITED,
) -> Accepted:
    """Add a base model, from any source, and the job that checks it; it serves once that job succeeded.

    A name whose last check failed may be registered again.

    Raises:
        InvalidInput: the revision does not fit the source.
        Conflict: the tenant has a model of this name.
        QueueFull, QuotaExceeded: `limits` forbid it.
    """
    spec = _checked(spec)
    lock.take(session, "base model", tenant_id, spec.name)
    model = _row(session, spec, tenant_id)
    model.source, model.revision, model.shared = spec.source, spec.revision, shared
    session.add(model)
    session.flush()
    submission = Submission(
        tenant_id=tenant_id,
        kind=JobKind.REGISTRATION,
        spec=spec.model_dump(mode="json"),
        plan=spec.model_dump(mode="json"),
        base_model_id=model.id,
        work_units=1.0,
        idempotency=terms.idempotency if terms else None,
        cancel_after=terms.cancel_after if terms else None,
    )
    return jobs.submit(session, submission, queue=queue, limits=limits)


def _row(session: Session, spec: BaseModelSpec, tenant_id: UUID) -> StableDiffusion:
    model = base_models.own_by_name(session, tenant_id=tenant_id, name=spec.name)
    if model is None:
        model = StableDiffusion(tenant_id=tenant_id, name=spec.name)
    elif model.status == ModelStatus.READY or base_models.is_being_checked(session, model_id=model.id):
        raise Conflict(f"You have a base model {spec.name} already; its status is {model.status}.")
    model.description, model.options = spec.description, spec.options.model_dump(mode="json")
    # What the maker of the request left open, the model's own check settles.
    model.defaults = spec.defaults.model_dump(mode="json", exclude_unset=True) if spec.defaults else {}
    model.status, model.status_reason = ModelStatus.CHECKING, None
    return model


def reconcile(session: Session) -> int:
    """Mark models as failed whose registration ended without a word on them: canceled, or too late; how many.

    Run on a clock, whatever ended the job.
    """
    marked = 0
    for model, job in base_models.left_unchecked(session):
        lock.take(session, "base model", model.tenant_id, model.name)
        session.refresh(model, with_for_update=True)
        is_asked_again = model.status != ModelStatus.CHECKING or base_models.is_being_checked(
            session, model_id=model.id
        )
        if not is_asked_again:
            reason = job.error_message or f"Its registration was {job.status} before it was checked."
            model.status, model.status_reason = ModelStatus.FAILED, f"{reason} Register it again."
            marked += 1
    return marked


def _checked(spec: BaseModelSpec) -> BaseModelSpec:
    source = parse_source(spec.source)
    if source.kind is SourceKind.HUB and not _COMMIT.fullmatch(spec.revision or ""):
        raise InvalidInput.of("revision", "must pin a model of the hub: the 40 hexadecimal digits of its commit")
    if source.kind is not SourceKind.HUB and spec.revision is not None:
        raise InvalidInput.of("revision", "is for models of the hub only")
    if source.kind is SourceKind.FOLDER:  # workers run in folders of their own
        return spec.model_copy(update={"source": str(Path(source.location).resolve())})
    return spec


def _check_place(source: ModelSource, settings: Settings) -> None:
    """Workers read with the rights of the service: tenants name neither other folders nor other places in S3.

    What they take from a hub is anybody's: it is asked without HF_TOKEN, but for what MODEL_SOURCES names.
    """
    root = settings.model_dir.resolve()
    if source.kind is SourceKind.FOLDER and not _is_beneath(Path(source.location).resolve(), root):
        raise InvalidInput.of(
            "source",
            f"must be a folder beneath {root}: put the model there, or have the operator register it "
            "with `lorikeet admin`",
        )
    if source.kind is SourceKind.S3 and not f"{source.location}/".startswith(settings.model_places):
        raise InvalidInput.of(
            "source",
            f"must lie under {' or '.join(settings.model_places)}: put the model there, or have the operator register "
            "it with `lorikeet admin`",
        )


def _is_beneath(folder: Path, root: Path) -> bool:
    return folder.is_relative_to(root) and not any(map(_FETCHED.match, folder.relative_to(root).parts[:1]))


def usable(session: Session, *, tenant_id: UUID, name: str, field: str = "model") -> StableDiffusion:
    """The base model that a request means by a name, ready to serve.

    Raises:
        InvalidInput: there is no such model; names `field`.
        Conflict: it is being checked, or its check failed.
    """
    model = base_models.by_name(session, tenant_id=tenant_id, name=name)
    if model is None:
        raise InvalidInput.of(field, f"there is no base model {name}")
    if model.status == ModelStatus.CHECKING:
        raise Conflict(f"The base model {name} is still being checked; try again when it is ready.")
    if model.status == ModelStatus.FAILED:
        raise Conflict(f"The base model {name} cannot be used: {status_reason(model, tenant_id=tenant_id)}")
    return model


def status_reason(model: StableDiffusion, *, tenant_id: UUID) -> str | None:
    """Why a model cannot be used, as far as a tenant may know: what was found tells where it lies."""
    if model.status_reason is None or model.tenant_id == tenant_id:
        return model.status_reason
    return "Its check failed; who offers it knows why."


def get(session: Session, *, tenant_id: UUID, model_id: UUID) -> StableDiffusion:
    """A base model that the tenant may use.

    Raises:
        NotFound: no such model, or another tenant's own.
    """
    model = base_models.by_id(session, tenant_id=tenant_id, model_id=model_id)
    if model is None:
        raise NotFound(f"There is no base model {model_id}.")
    return model


def list_page(
    session: Session, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[Sequence[StableDiffusion], str | None]:
    """The base models that a tenant may use, newest first, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    return base_models.page(session, tenant_id=tenant_id, limit=limit, cursor=cursor)
