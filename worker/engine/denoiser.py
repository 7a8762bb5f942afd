"""A UNet and the noise it was trained to remove: what every loss and every reward is built on."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import nn


@dataclass(frozen=True, slots=True)
class Condition:
    """What the pictures of a batch are about, as the UNet takes it.

    `hidden_states` (batch, tokens, width). SDXL has `pooled` (batch, width) and `time_ids` (batch, 6) as well.
    """

    hidden_states: torch.Tensor
    pooled: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    @staticmethod
    def stack(rows: list["Condition"]) -> "Condition":
        """One batch of several."""
        return Condition(
            torch.cat([row.hidden_states for row in rows]),
            torch.cat([row.pooled for row in rows if row.pooled is not None]) if rows[0].pooled is not None else None,
            torch.cat([row.time_ids for row in rows if row.time_ids is not None])
            if rows[0].time_ids is not None
            else None,
        )

    def rows(self, part: slice) -> "Condition":
        """Some of the batch."""
        return Condition(
            self.hidden_states[part],
            None if self.pooled is None else self.pooled[part],
            None if self.time_ids is None else self.time_ids[part],
        )


class Denoiser:
    """Adds noise to latents, and says what the UNet makes of the noisy ones.

    Latents are (batch, channels, height, width), timesteps are (batch,) integers from 0 to `timesteps` - 1.
    """

    def __init__(self, unet: nn.Module, scheduler_config: dict[str, Any], *, device: torch.device) -> None:
        # Whatever sampler the model ships with, its config says how the noise was laid out in training.
        scheduler = DDPMScheduler.from_config(scheduler_config)
        self.unet = unet
        self.prediction_type = str(scheduler.config.prediction_type)
        kept = scheduler.alphas_cumprod.to(device=device, dtype=torch.float32)
        self.timesteps = len(kept)
        self._signal, self._noise = kept.sqrt(), (1 - kept).sqrt()
        self._ratio = kept / (1 - kept)

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet's own weights are held in; a LoRA on it may be in float32."""
        first = next(self.unet.parameters(), None)
        return torch.float32 if first is None else first.dtype

    def signal_to_noise(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Signal-to-noise ratio (batch,): ᾱ/(1-ᾱ), 0 where nothing of the picture is left."""
        return self._ratio[timesteps]

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """√ᾱ·x + √(1-ᾱ)·ε (Ho et al., arXiv 2006.11239, equation 4)."""
        return _wide(self._signal[timesteps]) * latents + _wide(self._noise[timesteps]) * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the UNet of this family predicts: the noise, the velocity, or the clean latents."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "v_prediction":  # Salimans and Ho, arXiv 2202.00512, appendix D
            return _wide(self._signal[timesteps]) * noise - _wide(self._noise[timesteps]) * latents
        return latents

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The UNet's answer, in the shape of `noisy`."""
        added = None
        if condition.pooled is not None:
            added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        answer: torch.Tensor = self.unet(
            noisy, timesteps, condition.hidden_states, added_cond_kwargs=added, return_dict=False
        )[0]
        return answer


def denoise_error(
    denoiser: Denoiser,
    latents: torch.Tensor,
    condition: Condition,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of each sample (batch,), against the target of the model's family."""
    noisy = denoiser.add_noise(latents, noise, timesteps)
    predicted = denoiser.predict(noisy, timesteps, condition)
    target = denoiser.target(latents, noise, timesteps)
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
