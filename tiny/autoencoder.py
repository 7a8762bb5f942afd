"""The autoencoder: 64x64 pictures to 4x16x16 latents and back, trained until the scorer cannot tell."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import Progress
from torch import nn
from torch.nn import functional as F

from tiny import checkpoint, schedule
from tiny.scorer import score
from tiny.world import Caption, draw, full_captions, is_held_out

log = logging.getLogger(__name__)
_PEAK_RATE = 2e-3
_BATCH = 12
_ABSOLUTE_WEIGHT, _DIVERGENCE_WEIGHT = 0.2, 1e-7
_PASS_MARK = 0.99
_OVERTIME_PROGRESS = 0.9  # where the rate is held while the pass mark is not reached
_CHECKPOINT_EVERY = 250


def build() -> AutoencoderKL:
    """0.4 M parameters, three resolutions, four latent channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,  # standardize() brings the latents to unit variance
    )


def train(pictures: torch.Tensor, *, steps: int, seed: int, path: Path, progress: Progress) -> AutoencoderKL:
    """Train on pictures (n, 64, 64, 3) uint8 and standardize. Resumes from `path`; goes on until the scorer passes.

    Squared and absolute error plus a little divergence, as in Rombach et al., arXiv 2112.10752, without critics.
    Raises RuntimeError where three times the steps do not pass.
    """
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE)
    done = checkpoint.load(path, modules={"vae": model}, optimizer=optimizer)
    task = progress.add_task("autoencoder", total=steps, completed=done)
    for step in range(done, 3 * steps):
        if step >= steps and step % _CHECKPOINT_EVERY == 0 and (share := pass_rate(model)) >= _PASS_MARK:
            log.info("autoencoder passes: %.4f of reconstructions read as captioned", share)
            break
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        batch = to_model(pictures[torch.randint(len(pictures), (_BATCH,), generator=generator)])
        schedule.set_rate(optimizer, peak=_PEAK_RATE, progress=step / steps if step < steps else _OVERTIME_PROGRESS)
        loss = _loss(model, batch, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.update(task, completed=step + 1)
        if (step + 1) % _CHECKPOINT_EVERY == 0:
            checkpoint.save(path, modules={"vae": model}, optimizer=optimizer, step=step + 1)
            log.info("autoencoder step %d loss %.5f passes %.3f", step + 1, loss.item(), pass_rate(model, count=100))
    else:
        raise RuntimeError("The autoencoder's reconstructions do not pass the scorer.")
    standardize(model, pictures[:2000])
    return model.requires_grad_(False).eval()


def _loss(model: AutoencoderKL, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    posterior = model.encode(batch).latent_dist
    rebuilt = model.decode(posterior.sample(generator)).sample
    error = F.mse_loss(rebuilt, batch) + _ABSOLUTE_WEIGHT * F.l1_loss(rebuilt, batch)
    total: torch.Tensor = error + _DIVERGENCE_WEIGHT * posterior.kl().mean()
    return total


@torch.no_grad()
def standardize(model: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Give each latent channel mean 0 and variance 1 by folding the change into the two 1x1 convolutions.

    Diffusers scales latents by one number; this way no channel drowns in the noise before the others.
    """
    latents = encode(model, pictures)
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out_of = model.quant_conv, model.post_quant_conv
    channels = len(mean)
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # the second half is the log-variance
    out_of.bias += (out_of.weight[:, :, 0, 0] * mean).sum(dim=1)
    out_of.weight *= deviation[None, :, None, None]


@torch.no_grad()
def encode(model: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Mean latents (n, 4, 16, 16) of pictures (n, 64, 64, 3) uint8."""
    return torch.cat([model.encode(to_model(part)).latent_dist.mean for part in pictures.split(100)])


@torch.no_grad()
def pass_rate(model: AutoencoderKL, *, count: int = 400) -> float:
    """Share of held-out pictures whose reconstruction the scorer reads as captioned in all four attributes."""
    rng = np.random.default_rng(7)
    captions: list[Caption] = [caption for caption in full_captions() if is_held_out(caption)]
    captions = [captions[i % len(captions)] for i in range(count)]
    pictures = torch.from_numpy(np.stack([np.asarray(draw(caption, rng)) for caption in captions]))
    right = 0
    for part, named in zip(pictures.split(100), (captions[i : i + 100] for i in range(0, count, 100)), strict=True):
        rebuilt = model.decode(model.encode(to_model(part)).latent_dist.mode()).sample
        right += sum(score(image, caption).all_four for image, caption in zip(to_images(rebuilt), named, strict=True))
    return right / count


def to_model(pictures: torch.Tensor) -> torch.Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) in -1..1, channels last."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(batch: torch.Tensor) -> list[Image.Image]:
    """(n, 3, h, w) in -1..1 to pictures."""
    pixels = ((batch.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return [Image.fromarray(array) for array in pixels.numpy()]
