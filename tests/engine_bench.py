"""What tests of the engine share, wherever they run."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import SecretStr

from core.domain.generation import GenerationPlan
from core.infra.settings import Settings
from worker.engine.pipeline import DeviceName


def settings_alone(data_dir: Path, *, device: DeviceName) -> Settings:
    """Settings of a worker whose outside systems are never asked for."""
    return Settings(
        _env_file=None,
        database_url="postgresql://nowhere",
        redis_url="redis://nowhere",
        s3_bucket="none",
        s3_endpoint_url="http://127.0.0.1:9",
        s3_access_key_id="none",
        s3_secret_access_key=SecretStr("none"),
        secret_key=SecretStr("x" * 32),
        data_dir=data_dir,
        device=device,
    )


def draw_alone(pipeline: Any, plan: GenerationPlan, **more: Any) -> Image.Image:
    """The picture of a plan by diffusers' own call, with `more` of its inputs."""
    image: Image.Image = pipeline(
        plan.prompt,
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(plan.seed),
        width=plan.width,
        height=plan.height,
        **more,
    ).images[0]
    return image
