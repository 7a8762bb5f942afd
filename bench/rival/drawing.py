"""What both rivals do with a request: diffusers' own pipeline on the same model, a PNG back."""

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline


class Painter:
    """Draws requests with the model and the number of threads that the environment names."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["TORCH_THREADS"]))
        self._pipeline = StableDiffusionPipeline.from_pretrained(
            os.environ["MODEL"], dtype=torch.float32, use_safetensors=True
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, requests: Sequence[dict[str, Any]]) -> list[str]:
        """A PNG in base64 for each, all in one batch with the first one's steps and guidance."""
        drawn: Any = self._pipeline(
            [request["prompt"] for request in requests],
            num_inference_steps=requests[0]["steps"],
            guidance_scale=requests[0]["guidance_scale"],
            generator=[torch.Generator("cpu").manual_seed(request["seed"]) for request in requests],
        )
        return [_png(image) for image in drawn.images]


def _png(image: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
