"""What training makes small: the denoising error, and the losses built on it.

A loss draws its own timesteps and noise from the run's generator, so that one which compares two pictures can show
both of them the same. The loop knows nothing of it but the number it returns.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from worker.engine.denoiser import Condition, Denoiser, denoise_error

B = TypeVar("B", contravariant=True)  # noqa: PLC0105 - the field's letter for a batch


class Loss(Protocol[B]):
    """Turns a batch into one number to descend on.

    Draws randomness from `generator` (on the CPU) alone, leaves the adapter switched on as it found it, and gives a
    scalar that is differentiable in the adapter's weights.
    """

    def __call__(self, denoiser: Denoiser, batch: B, generator: torch.Generator) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures and what they are about. `latents` (batch, channels, height, width)."""

    latents: torch.Tensor
    condition: Condition


def min_snr_weight(denoiser: Denoiser, timesteps: torch.Tensor, *, gamma: float) -> torch.Tensor:
    """Weights (batch,) that keep easy, low-noise steps from ruling: Hang et al., arXiv 2303.09556, section 3.4.

    min(SNR, gamma) on the error of the clean picture; divided by SNR where the noise is predicted and by SNR + 1 where
    the velocity is. With zero terminal SNR the last step weighs 1 (noise) or 0 (velocity), never NaN.
    """
    ratio = denoiser.signal_to_noise(timesteps)
    if denoiser.prediction_type == "epsilon":
        return (gamma / ratio).clamp(max=1.0)
    if denoiser.prediction_type == "v_prediction":
        return ratio.clamp(max=gamma) / (ratio + 1)
    return ratio.clamp(max=gamma)


@dataclass(frozen=True, slots=True)
class FineTuningLoss:
    """The denoising error of the pictures, weighted by min-SNR where `min_snr_gamma` is given."""

    min_snr_gamma: float | None

    def __call__(self, denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """Mean over the batch, at a timestep and with noise of its own for each picture."""
        latents = batch.latents
        timesteps = torch.randint(denoiser.timesteps, (len(latents),), generator=generator).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        error = denoise_error(denoiser, latents, batch.condition, timesteps, noise)
        if self.min_snr_gamma is not None:
            error = error * min_snr_weight(denoiser, timesteps, gamma=self.min_snr_gamma)
        return error.mean()
