"""Put the parts together as a Stable Diffusion pipeline in the diffusers layout, and store it."""

import copy
import json
import shutil
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from tiny.denoiser import Denoiser, build_scheduler

DEFAULTS = {"steps": 20, "guidance_scale": 3.0, "scheduler": "ddim"}
"""What a request takes that leaves them out; read when the model is registered."""


def save(folder: Path, *, vae: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer) -> None:
    """Store a whole folder beside the old one, then swap, so that it is never half written.

    Half precision, for size, except the text encoder: transformers would load it as it is stored.
    """
    pipeline = StableDiffusionPipeline(
        vae=nn.Module.half(copy.deepcopy(vae)),
        text_encoder=denoiser.text_encoder,
        unet=nn.Module.half(copy.deepcopy(denoiser.unet)),
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    draft, old = folder.with_name(f"{folder.name}.draft"), folder.with_name(f"{folder.name}.old")
    shutil.rmtree(draft, ignore_errors=True)
    pipeline.save_pretrained(draft, safe_serialization=True)
    (draft / "lorikeet.json").write_text(json.dumps(DEFAULTS) + "\n")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> StableDiffusionPipeline:
    """Load for CPU in single precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
