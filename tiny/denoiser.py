"""The denoiser and its text encoder, trained together on the latents of the drawn world."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from rich.progress import Progress
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tiny import checkpoint, schedule
from tiny.corpus import CaptionTable
from tiny.tokenizer import WINDOW

log = logging.getLogger(__name__)
_WIDTH = 64  # of the text encoder
_PEAK_RATE = 1.5e-3
_BATCH = 32
_AVERAGE_DECAY = 0.998
_CHECKPOINT_EVERY = 250
_HIGH_NOISE_BIAS = 1.5  # the shape is decided early in sampling; 1 would draw the timesteps evenly


@dataclass(frozen=True, slots=True)
class Denoiser:
    """The two networks that train together."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for module in self.modules.values() for parameter in module.parameters()]


def build(tokenizer: CLIPTokenizer) -> Denoiser:
    """5 M and 0.15 M parameters. The pooled text joins the time embedding, which scales and shifts each block."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 96, 112),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=_WIDTH,
        attention_head_dim=4,  # diffusers reads it as the number of heads
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=4 * _WIDTH,
        projection_dim=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Denoiser(unet, CLIPTextModel(text))


def build_scheduler() -> DDIMScheduler:
    """Velocity prediction, zero terminal SNR, trailing timesteps: Lin et al., arXiv 2305.08891."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


class DenoiserTrainer:
    """One training run: its networks, their running average, and where it stands."""

    def __init__(self, tokenizer: CLIPTokenizer, *, seed: int, path: Path) -> None:
        torch.manual_seed(seed)
        self.model = build(tokenizer)
        self.averaged = copy.deepcopy(self.model)
        self._captions = CaptionTable(tokenizer)
        self._scheduler = build_scheduler()
        self._optimizer = torch.optim.AdamW(self.model.parameters, lr=_PEAK_RATE, betas=(0.9, 0.99), fused=True)
        self._seed, self._path = seed, path
        self._saved = self.model.modules | {f"averaged_{k}": v for k, v in self.averaged.modules.items()}
        self.step = checkpoint.load(path, modules=self._saved, optimizer=self._optimizer)

    def train(
        self,
        latents: torch.Tensor,
        labels: torch.Tensor,
        *,
        steps: int,
        progress: Progress,
        every: int,
        inspect: Callable[["DenoiserTrainer"], None],
    ) -> Denoiser:
        """Train on latents (n, 4, 16, 16) and labels (n, 4) up to `steps`; call `inspect` now and then.

        Each step draws from its own seed, so a run that was cut off continues as if it had not been.
        """
        task = progress.add_task("denoiser", total=steps, completed=self.step)
        running = 0.0
        while self.step < steps:
            schedule.set_rate(self._optimizer, peak=_PEAK_RATE, progress=self.step / steps)
            loss = self._loss(latents, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters, 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            for name, module in self.model.modules.items():
                schedule.average(self.averaged.modules[name], module, decay=_AVERAGE_DECAY, step=self.step)
            self.step += 1
            running += (loss.item() - running) * max(0.01, 1 / self.step)
            progress.update(task, completed=self.step)
            if self.step % _CHECKPOINT_EVERY == 0 or self.step == steps:
                checkpoint.save(self._path, modules=self._saved, optimizer=self._optimizer, step=self.step)
                log.info("denoiser step %d loss %.4f", self.step, running)
            if self.step % every == 0:
                inspect(self)
        return self.averaged

    def _loss(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Squared error of the predicted velocity for one batch."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.step)
        chosen = torch.randint(len(latents), (_BATCH,), generator=generator)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        level = 1 - torch.rand(_BATCH, generator=generator) ** _HIGH_NOISE_BIAS
        times = (level * len(self._scheduler.alphas_cumprod)).long().clamp(max=len(self._scheduler.alphas_cumprod) - 1)
        text = self.model.text_encoder(self._captions.sample(labels[chosen], generator)).last_hidden_state
        noisy = self._scheduler.add_noise(clean, noise, times)
        velocity = self._scheduler.get_velocity(clean, noise, times)
        return F.mse_loss(self.model.unet(noisy, times, text).sample, velocity)
