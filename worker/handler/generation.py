"""Generation: plan → images → stored."""

import hashlib
import io
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from PIL import Image

from core.domain import object_key
from core.domain.errors import JobFailure, NotFound
from core.domain.generation import GenerationPlan
from core.domain.outcome import Outcome, Output
from core.infra.perceptual_hash import perceptual_hash
from worker.engine.receipt import encode_image, plan_of
from worker.runner import Run
from worker.runtime import Runtime


def handle(run: Run, runtime: Runtime) -> Outcome:
    """Draw the images of a plan, store each with its receipt, and say where they are.

    Raises:
        JobFailure, InvalidInput: the plan cannot be done.
        JobStopped: the run was asked to stop.
        Unavailable: the object store is not reachable.
    """
    plan = GenerationPlan.model_validate(run.plan)
    init_image = _load_init_image(plan, runtime)
    images: list[Image.Image] = []
    for _, neighbours in groupby(range(plan.num_images), key=plan.arm_of):
        part = plan.part(len(images), len(list(neighbours)))
        images += runtime.engine.generate(
            run.model,
            part,
            tenant=str(run.tenant_id),
            init_image=init_image,
            on_step=partial(_report, run, plan, len(images)),
            should_stop=run.should_stop,
        )
    return Outcome(outputs=[_store(image, index, plan, run, runtime) for index, image in enumerate(images)])


def _report(run: Run, plan: GenerationPlan, drawn: int, step: int, _steps: int) -> None:
    done, steps = drawn * plan.denoising_steps, plan.num_images * plan.denoising_steps
    run.report(step=done + step, steps=steps, message="denoising")


def _load_init_image(plan: GenerationPlan, runtime: Runtime) -> Image.Image | None:
    if plan.init_image_key is None:
        return None
    try:
        return Image.open(io.BytesIO(runtime.store.get(plan.init_image_key)))
    except NotFound as error:
        raise JobFailure("The image that init_image names is gone.") from error


def _store(image: Image.Image, index: int, plan: GenerationPlan, run: Run, runtime: Runtime) -> Output:
    alone = plan_of(plan, index)
    file = encode_image(image, alone)
    content_type = plan.output_format.content_type
    key = object_key.output(job_id=run.job_id, claim_epoch=run.claim_epoch, name=f"{index}.{plan.output_format}")
    runtime.store.put(key, file, content_type=content_type)
    return Output(
        type="image",
        object_key=key,
        content_type=content_type,
        size_bytes=len(file),
        sha256=hashlib.sha256(file).hexdigest(),
        width=image.width,
        height=image.height,
        seed=alone.seed,
        adapters=_credits(alone),
        perceptual_hash=perceptual_hash(image),
        rollout_id=None if plan.assignment is None else UUID(plan.assignment.rollout_id),
        arm=plan.arm_of(index),
    )


def _credits(plan: GenerationPlan) -> list[dict[str, Any]]:
    return [
        adapter.model_dump(mode="json", include={"id", "name", "version", "weight", "text_encoder_weight"})
        for adapter in plan.adapters
    ]
