"""Submit a generation: a specification becomes a plan with nothing left open, and the plan a job."""

import secrets
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from core.domain.adapter import SERVING, AdapterManifest, parse_ref
from core.domain.base_model import ModelFamily, accepted_schedulers, side_step
from core.domain.generation import (
    AdapterChoice,
    GenerationDefaults,
    GenerationPlan,
    GenerationSpec,
    ResolvedAdapter,
)
from core.domain.job import JobKind
from core.domain.problem_list import ProblemList
from core.infra.object_store import ObjectStore
from core.infra.repository import adapter as adapters
from core.infra.repository import base_model as base_models
from core.infra.settings import Settings
from core.infra.table import Adapter, StableDiffusion
from core.infra.task_queue import TaskQueue
from core.services import init_image as init_images
from core.services import job as jobs
from core.services.init_image import InitImage, SentPicture
from core.services.job import Accepted, Submission
from core.services.model_memory import ModelMemory
from core.services.rollout import is_taken_back
from core.services.serving import Served, serve
from core.services.terms import Terms

_LATENT_PIXELS = 64 * 64
_SEEDS = 2**32


@dataclass(frozen=True)
class _Chosen:
    """An adapter of the request with what it was asked for; `field` names its place in the request."""

    field: str
    choice: AdapterChoice
    adapter: Adapter


def submit(
    session: Session,
    spec: GenerationSpec,
    terms: Terms,
    *,
    memory: ModelMemory,
    settings: Settings,
    sent: SentPicture | None,
    store: ObjectStore,
    queue: TaskQueue,
) -> Accepted:
    """Check a request against its base model, and make it a job. `sent` is what `init_image.keep` made of its picture.

    Raises:
        InvalidInput: names every field that is wrong.
        Conflict: the base model is not ready.
        QueueFull, QuotaExceeded: a limit of the tenant forbids it.
        IdempotencyKeyReuse: the key came with another request.
    """
    accepted = terms.find_replay(session)
    if accepted is None:
        submission = _checked(session, spec, terms, memory=memory, settings=settings, sent=sent)
        accepted = jobs.submit(session, submission, queue=queue, limits=settings.limits)
    if sent is not None:
        init_images.drop_unless_used(session, sent, accepted.job, store=store)
    return accepted


def _checked(
    session: Session,
    spec: GenerationSpec,
    terms: Terms,
    *,
    memory: ModelMemory,
    settings: Settings,
    sent: SentPicture | None,
) -> Submission:
    problems, image = ProblemList(), None
    with problems.gather():
        spec.check_webhook(private=settings.webhook_private)
    with problems.gather(field="init_image"):
        image = init_images.find(session, spec, sent, tenant_id=terms.tenant_id)
    model = None
    with problems.gather():
        model = memory.usable(session, tenant_id=terms.tenant_id, name=spec.model or settings.default_model)
    chosen = _resolve(session, spec.adapters or (), terms.tenant_id, problems)
    if model is not None:
        _check_fit(session, chosen, model, problems)
        plan = _plan(spec, model, _served(session, spec, terms.tenant_id, model.id, chosen), image)
        _check_ability(plan, model, problems)
        if plan.width * plan.height > settings.max_pixels:
            problems.add("width", f"width * height must be at most {settings.max_pixels} pixels")
    problems.raise_any()
    assert model is not None
    return _submission(spec, plan, terms, model, image)


def _submission(
    spec: GenerationSpec, plan: GenerationPlan, terms: Terms, model: StableDiffusion, image: InitImage | None
) -> Submission:
    record = spec.model_dump(mode="json") | {"init_image": image.name if image else None}
    return Submission(
        tenant_id=terms.tenant_id,
        kind=JobKind.GENERATION,
        spec=record,
        plan=plan.model_dump(mode="json"),
        base_model_id=model.id,
        work_units=work_units(plan, ModelFamily(model.family or "")),
        idempotency=terms.idempotency,
        cancel_after=terms.cancel_after,
        priority=terms.priority,
        webhook=spec.asked_webhook,
    )


def work_units(plan: GenerationPlan, family: ModelFamily) -> float:
    """The size of the work: denoising steps of one image of 64 x 64 pixels without guidance."""
    passes = 2 if plan.guidance_scale > 1 and family is not ModelFamily.FLUX else 1  # its guidance is an input
    return plan.denoising_steps * plan.num_images * passes * (plan.width * plan.height) / _LATENT_PIXELS


def _served(session: Session, spec: GenerationSpec, tenant_id: UUID, model_id: UUID, chosen: list[_Chosen]) -> Served:
    if spec.adapters is not None:
        return Served(tuple(_pinned(each.choice, each.adapter) for each in chosen))
    return serve(session, tenant_id=tenant_id, model_id=model_id, user_ref=spec.user_ref, num_images=spec.num_images)


def _plan(spec: GenerationSpec, model: StableDiffusion, served: Served, image: InitImage | None) -> GenerationPlan:
    defaults = GenerationDefaults.model_validate(model.defaults)
    return GenerationPlan(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        model=model.name,
        width=spec.width or defaults.width,
        height=spec.height or defaults.height,
        steps=spec.steps or defaults.steps,
        guidance_scale=defaults.guidance_scale if spec.guidance_scale is None else spec.guidance_scale,
        seed=secrets.randbelow(_SEEDS) if spec.seed is None else spec.seed,
        num_images=spec.num_images,
        scheduler=spec.scheduler or defaults.scheduler,
        adapters=served.adapters,
        assignment=served.assignment,
        init_image_key=image.key if image else None,
        strength=None if spec.init_image is None else spec.strength or defaults.strength,
        output_format=spec.output_format,
    )


def _pinned(choice: AdapterChoice, adapter: Adapter) -> ResolvedAdapter:
    text_encoder = choice.text_encoder_weight
    return ResolvedAdapter(
        id=str(adapter.id),
        name=adapter.name,
        version=adapter.version,
        sha256=adapter.sha256,
        object_key=adapter.object_key,
        weight=choice.weight,
        text_encoder_weight=choice.weight if text_encoder is None else text_encoder,
    )


def _resolve(
    session: Session, choices: tuple[AdapterChoice, ...], tenant_id: UUID, problems: ProblemList
) -> list[_Chosen]:
    found: list[_Chosen] = []
    for index, choice in enumerate(choices):
        field = f"adapters.{index}.ref"
        with problems.gather(field=field):
            adapter = adapters.by_ref(session, tenant_id=tenant_id, ref=parse_ref(choice.ref))
            if adapter is None:
                problems.add(field, f"there is no adapter {choice.ref}")
            elif adapter.stage not in SERVING and is_taken_back(session, adapter):
                problems.add(field, f"{adapter.ref} was trained on feedback that has been withdrawn since")
            elif any(adapter.id == other.adapter.id for other in found):
                problems.add(field, "names an adapter that this request names before")
            else:
                found.append(_Chosen(field, choice, adapter))
    return found


def _check_fit(session: Session, chosen: list[_Chosen], model: StableDiffusion, problems: ProblemList) -> None:
    """An adapter fits the model it was made for, and any other of the same family whose modules are the same."""
    for each in chosen:
        if each.adapter.base_model_id == model.id:
            continue
        family = AdapterManifest.model_validate(each.adapter.manifest).family
        if family != model.family:
            problems.add(each.field, f"was made for {family}; {model.name} is {model.family}")
        elif not _have_same_modules(session, each.adapter.base_model_id, model.id):
            problems.add(each.field, f"was made for a base model of other sizes than {model.name}")


def _check_ability(plan: GenerationPlan, model: StableDiffusion, problems: ProblemList) -> None:
    """What no model of the family can do is said now, not by the worker."""
    family, defaults = ModelFamily(model.family or ""), GenerationDefaults.model_validate(model.defaults)
    accepted, step = accepted_schedulers(family, default=defaults.scheduler), side_step(family)
    if plan.scheduler not in accepted:
        problems.add("scheduler", f"{plan.scheduler} is not for {model.name}; it takes {', '.join(accepted)}")
    for field, pixels in (("width", plan.width), ("height", plan.height)):
        if pixels % step:
            problems.add(field, f"must be a multiple of {step} with {model.name}")
    if plan.negative_prompt and family is ModelFamily.FLUX:
        problems.add("negative_prompt", f"{model.name} takes none: its guidance needs no negative answer")
    if plan.strength is not None and family is ModelFamily.OTHER:
        problems.add("init_image", f"{model.name} draws from a prompt alone")


def _have_same_modules(session: Session, one: UUID, other: UUID) -> bool:
    return base_models.modules_of(session, model_id=one) == base_models.modules_of(session, model_id=other)
