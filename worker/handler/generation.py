"""Generation: plan → images → stored."""

import hashlib
import io
from typing import Any

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
    images = runtime.engine.generate(
        run.model,
        plan,
        init_image=_load_init_image(plan, runtime),
        on_step=lambda step, steps: run.report(step=step, steps=steps, message="denoising"),
        should_stop=run.should_stop,
    )
    return Outcome(outputs=[_store(image, index, plan, run, runtime) for index, image in enumerate(images)])


def _load_init_image(plan: GenerationPlan, runtime: Runtime) -> Image.Image | None:
    if plan.init_image_key is None:
        return None
    try:
        return Image.open(io.BytesIO(runtime.store.get(plan.init_image_key)))
    except NotFound as error:
        raise JobFailure("The image that init_image names is gone.") from error


def _store(image: Image.Image, index: int, plan: GenerationPlan, run: Run, runtime: Runtime) -> Output:
    file = encode_image(image, plan_of(plan, index))
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
        seed=plan.seed + index,
        adapters=_credits(plan),
        perceptual_hash=perceptual_hash(image),
    )


def _credits(plan: GenerationPlan) -> list[dict[str, Any]]:
    return [
        adapter.model_dump(mode="json", include={"id", "name", "version", "weight", "text_encoder_weight"})
        for adapter in plan.adapters
    ]
