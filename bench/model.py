"""Models with random weights in the shapes of real ones, made once: what they draw is noise, what they cost is not."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from bench import report
from core.domain.base_model import LoadOptions
from tiny.tokenizer import build as build_tokenizer
from worker.engine.pipeline import Pipeline, load_pipeline, silence

TINY = Path(__file__).parent.parent / "tiny" / "lorikeet-tiny"
FOLDER = Path("data") / "bench"
_TIME_IDS = 6  # what SDXL is told about sizes


@dataclass(frozen=True)
class Shape:
    """A model's sizes. `unet` are its config's fields, `side` is the picture's in pixels."""

    side: int
    unet: dict[str, Any]
    vae: tuple[int, ...]
    text: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    time_width: int = field(default=0)


def _sd1(*channels: int, text: int, groups: int = 32) -> dict[str, Any]:
    """Stable Diffusion 1.5 but for its width: four levels, two blocks each, eight heads."""
    return {
        "block_out_channels": channels,
        "cross_attention_dim": text,
        "attention_head_dim": 8,
        "norm_num_groups": groups,
    }


def _xl(*channels: int, layers: tuple[int, ...], heads: tuple[int, ...], text: int, groups: int = 32) -> dict[str, Any]:
    """Stable Diffusion XL but for its width and depth: three levels, the first without attention."""
    return {
        "block_out_channels": channels,
        "cross_attention_dim": text,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": layers,
        "attention_head_dim": heads,
        "use_linear_projection": True,
        "norm_num_groups": groups,
        "addition_embed_type": "text_time",
    }


SHAPES = {
    "mini": Shape(64, _sd1(16, 32, 32, 32, text=32, groups=8), (8, 8, 8, 8), (32,)),
    "mini-xl": Shape(
        64, _xl(16, 32, 32, layers=(1, 1, 2), heads=(2, 4, 4), text=64, groups=8), (8,) * 4, (32, 32), time_width=8
    ),
    "mid": Shape(256, _sd1(64, 128, 256, 256, text=256, groups=16), (8, 16, 16, 16), (256,)),
    "sd15": Shape(512, _sd1(320, 640, 1280, 1280, text=768), (128, 256, 512, 512), (768,), torch.float16),
    "sdxl": Shape(
        1024,
        _xl(320, 640, 1280, layers=(1, 2, 10), heads=(5, 10, 20), text=2048),
        (128, 256, 512, 512),
        (768, 1280),
        torch.float16,
        time_width=256,
    ),
}
NAMES = ("tiny", *SHAPES)


def parser(description: str | None, *, models: Sequence[str], rounds: int) -> argparse.ArgumentParser:
    """What every bench of the engine can be asked; the values are its defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(models))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for the figures")
    return parser


def stem(bench: str, name: str, asked: Any) -> str:
    """The name of the file of its figures."""
    return f"{bench}_{name}" + ("_cuda" if asked.device == "cuda" else "")


def folder_of(name: str) -> Path:
    """The model's folder; made where it is not there yet."""
    if name == "tiny":
        return TINY
    folder = FOLDER / name
    if not folder.exists():
        part = folder.with_suffix(".part")
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # billions of random numbers
            built = build(SHAPES[name])
        built.to(SHAPES[name].dtype).save_pretrained(part)
        part.rename(folder)
    return folder


def side_of(name: str) -> int:
    """Width and height of its pictures, in pixels."""
    return 64 if name == "tiny" else SHAPES[name].side


def load(name: str, *, device: str) -> Pipeline:
    """A pipeline of its own, as the worker loads it."""
    return load_pipeline(folder_of(name), LoadOptions(), device="cuda" if device == "cuda" else "cpu")


def build(shape: Shape, *, seed: int = 0) -> Any:
    """The same weights for the same seed."""
    silence()
    torch.manual_seed(seed)
    is_xl = len(shape.text) > 1
    more = {"addition_time_embed_dim": shape.time_width} if is_xl else {}
    if is_xl:
        more["projection_class_embeddings_input_dim"] = shape.text[1] + _TIME_IDS * shape.time_width
    levels = len(shape.vae)
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel(sample_size=shape.side // 2 ** (levels - 1), **shape.unet, **more),
        "vae": AutoencoderKL(
            block_out_channels=shape.vae,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=2,
            norm_num_groups=min(32, shape.vae[0]),
            latent_channels=4,
            sample_size=shape.side,
            force_upcast=False,
        ),
        "tokenizer": build_tokenizer(),
        "scheduler": DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
    }
    parts["text_encoder"] = CLIPTextModel(_text(shape.text[0], parts["tokenizer"]))
    if not is_xl:
        return StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    parts["tokenizer_2"] = build_tokenizer()
    parts["text_encoder_2"] = CLIPTextModelWithProjection(_text(shape.text[1], parts["tokenizer"]))
    return StableDiffusionXLPipeline(**parts, add_watermarker=False)


def _text(width: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Two layers: prompts are encoded once, and no bench is about that."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
