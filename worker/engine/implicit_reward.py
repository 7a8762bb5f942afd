"""How well pictures are explained. An implicit reward is the reference's error minus the policy's: above 0 is better.

Wallace et al., arXiv 2311.12908, equation 14, as a mean over elements.
"""

from collections.abc import Sequence

import numpy as np
import torch

from worker.engine.denoiser import Condition, Denoiser, denoise_error

FIXED_TIMESTEPS = tuple(range(50, 1000, 90))
"""Eleven of a thousand, evenly spread: where rewards are looked at."""


@torch.no_grad()
def mean_errors(
    denoiser: Denoiser,
    latents: torch.Tensor,
    condition: Condition,
    *,
    timesteps: Sequence[int],
    seeds: Sequence[int],
    batch_size: int = 16,
) -> torch.Tensor:
    """The denoising error of each picture (n,) on the CPU, mean over `timesteps`, with the adapter as it is.

    The noise comes from a picture's seed and the timestep alone, so the pictures of one pair share a seed, and the
    same picture has the same number in whatever company, up to rounding.
    """
    total = torch.zeros(len(latents))
    for timestep in timesteps:
        noise = torch.stack([seeded_noise(latents.shape[1:], seed, timestep) for seed in seeds]).to(latents.device)
        for start in range(0, len(latents), batch_size):
            rows = slice(start, start + batch_size)
            part = latents[rows]
            times = torch.full((len(part),), timestep, device=latents.device)
            with torch.autocast(latents.device.type, denoiser.dtype, enabled=denoiser.dtype is not torch.float32):
                error = denoise_error(denoiser, part, condition.rows(rows), times, noise[rows])
            total[rows] += error.cpu()
    return total / len(timesteps)


def seeded_noise(shape: Sequence[int], *seed: int) -> torch.Tensor:
    """Standard normal noise of this shape that belongs to these numbers, the same on every machine."""
    # Torch's own generator on the CPU looks at 32 bits of a seed only.
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32))
