"""A random Stable Diffusion and a plan, small enough to train in a second; used by tests and by processes they kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.domain.training import TrainingMetric, TrainingPlan, TrainingSpec
from tiny import tokenizer
from worker.training.checkpoint import digest_config
from worker.training.data import Example
from worker.training.learner import Learner
from worker.training.loop import TrainingRun

CPU = torch.device("cpu")
_WIDTH = 16


def make_plan(**changes: Any) -> TrainingPlan:
    """Four steps of two pictures; `changes` are fields of the TrainingSpec."""
    fields = {"name": "it", "dataset_id": UUID(int=1), "rank": 2, "steps": 4, "batch_size": 2, "learning_rate": 1e-2}
    spec = TrainingSpec(**{**fields, **changes})
    return TrainingPlan(
        spec=spec,
        base_model="random",
        adapter_version=1,
        alpha=spec.alpha or float(spec.rank),
        resolution=spec.resolution or 64,
        seed=7,
        dataset_digest="0" * 64,
    )


def make_learner(plan: TrainingPlan, *, sdxl: bool = False) -> Learner:
    """A fresh pipeline, the same each time, with the plan's LoRA on it."""
    return Learner(make_pipeline(sdxl=sdxl), plan, device=CPU)


def make_pipeline(*, sdxl: bool = False, prediction_type: str = "v_prediction") -> Any:
    """64x64 pictures, 16x16 latents, random weights from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            norm_num_groups=4,
            latent_channels=4,
            sample_size=64,
        )
        parts = {
            "vae": vae,
            "unet": _make_unet(sdxl=sdxl),
            "scheduler": DDIMScheduler(
                prediction_type=prediction_type,
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
                steps_offset=1,
                clip_sample=False,
            ),
            "tokenizer": tokenizer.build(),
            "text_encoder": CLIPTextModel(_text_config()),
            "feature_extractor": None,
            "image_encoder": None,
        }
        if sdxl:
            second = {"tokenizer_2": tokenizer.build(), "text_encoder_2": CLIPTextModelWithProjection(_text_config())}
            pipeline = StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
        else:
            pipeline = StableDiffusionPipeline(**parts, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _make_unet(*, sdxl: bool) -> UNet2DConditionModel:
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + _WIDTH,
    }
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=2 * _WIDTH if sdxl else _WIDTH,
        attention_head_dim=2,
        **(added if sdxl else {}),
    )


def _text_config() -> CLIPTextConfig:
    words = tokenizer.build()
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        projection_dim=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.WINDOW,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )


def make_examples(folder: Path) -> list[Example]:
    """Five pictures of noise in several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    found = []
    for index, (width, height) in enumerate([(64, 64), (80, 64), (64, 100), (64, 64), (90, 90)]):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
        found.append(Example(path, f"picture number {index}"))
    return found


class Watcher:
    """Watches a run: notes its metrics, and says stop before the step after `stop_after`."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.metrics: list[TrainingMetric] = []
        self.kept: list[Path] = []
        self.sampled: list[int] = []
        self.questions = 0

    def should_stop(self) -> bool:
        self.questions += 1
        return self.stop_after is not None and self.questions > self.stop_after

    def record(self, metrics: Sequence[TrainingMetric]) -> None:
        self.metrics.extend(metrics)

    def keep(self, checkpoint: Path, *, step: int) -> None:
        assert int(checkpoint.name) == step
        self.kept.append(checkpoint)

    def sample(self, *, step: int) -> None:
        self.sampled.append(step)


def make_run(plan: TrainingPlan, folder: Path, **changes: Any) -> TrainingRun:
    """A run that keeps no checkpoint unless it is stopped."""
    config = digest_config(plan, base_model_id="random")
    return TrainingRun(plan=plan, folder=folder, config_sha256=config, **{"checkpoint_seconds": 1e9, **changes})
