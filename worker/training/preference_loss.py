"""Losses on opinions. A reward is the reference's error minus the policy's, both means per element: > 0 is better."""

import math

import torch
from torch.nn.functional import logsigmoid

from core.domain.errors import JobFailure
from core.domain.preference import PreferenceRecipe
from worker.engine.denoiser import Denoiser
from worker.training.preference_data import PreferenceBatch

_LEAST_BETA, _MOST_BETA = 10.0, 10_000.0
_MEMORY = 0.9  # of the running means
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}  # of the error, at the first step


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: torch.Tensor | float, flip_rate: float = 0.0
) -> torch.Tensor:
    """Diffusion-DPO of each pair (pairs,), from the rewards of both sides: Wallace et al., arXiv 2311.12908, eq. 14.

    -log sigmoid(½·beta·(chosen - rejected)). A share `flip_rate` of the choices is taken for mistaken (conservative
    DPO, Mitchell 2023): then the loss has its least value at a margin that is finite.
    """
    logits = beta / 2 * (chosen - rejected)
    return -(1 - flip_rate) * logsigmoid(logits) - flip_rate * logsigmoid(-logits)


def kto_loss(
    rewards: torch.Tensor, signs: torch.Tensor, *, zero: torch.Tensor, beta: torch.Tensor | float
) -> torch.Tensor:
    """Diffusion-KTO of each picture (n,), `signs` 1 for a liked and -1 for a disliked one: arXiv 2404.04465.

    1 - sigmoid(sign·beta·(reward - zero)), where `zero` is what an average picture gets.
    """
    return 1 - torch.sigmoid(beta * signs * (rewards - zero))


def zero_point(rewards: torch.Tensor) -> torch.Tensor:
    """The mean reward of a batch, at least 0, a constant to the gradient."""
    return rewards.detach().mean().clamp(min=0.0)


def choose_beta(margin: torch.Tensor, *, target_gradient: float) -> torch.Tensor:
    """The beta at which a typical |margin| has the gradient factor sigmoid(-½·beta·margin) aimed at, clamped."""
    logit = math.log(target_gradient / (1 - target_gradient))
    return (-2 * logit / margin.clamp(min=1e-12)).clamp(_LEAST_BETA, _MOST_BETA)


class PreferenceLoss:
    """Diffusion-DPO for pairs, Diffusion-KTO for single pictures, a little denoising of what is liked, two anchors.

    An anchor is the mean squared distance between the policy's and the reference's predictions: one for the opinions'
    pictures, one for prompts that are to be drawn as before. Each opinion counts by its weight. Running means are kept
    of what the margins are like; they are state, see `snapshot`.
    """

    def __init__(self, recipe: PreferenceRecipe, *, device: torch.device) -> None:
        self._recipe = recipe
        self._calls = 0
        # |margin|, gradient factor, error of liked pictures by the policy and by the reference
        self._means = torch.zeros(4, device=device)

    def __call__(
        self,
        denoiser: Denoiser,
        batch: PreferenceBatch,
        generator: torch.Generator,  # noqa: ARG002 - noise comes with the batch, for the reference saw it too
    ) -> torch.Tensor:
        """One pass over all pictures of the batch.

        Raises:
            JobFailure: at the first call policy and reference differ, so one of them is not what it should be.
        """
        predicted = denoiser.predict(
            denoiser.add_noise(batch.latents, batch.noise, batch.timesteps), batch.timesteps, batch.condition
        ).float()
        target = denoiser.target(batch.latents, batch.noise, batch.timesteps).float()
        errors = (predicted - target).square().mean(dim=(1, 2, 3))
        rewards = batch.reference.errors - errors
        if self._calls == 0:
            self._check_start(rewards, batch.reference.errors, denoiser.dtype)
        recipe, beta = self._recipe, self.beta
        chosen, rejected, single = batch.split(rewards)
        zero = zero_point(batch.part(rewards)[0])
        each = torch.cat(
            [
                dpo_loss(chosen, rejected, beta=beta, flip_rate=recipe.flip_rate or 0.0),
                kto_loss(single, batch.signs, zero=zero, beta=beta),
            ]
        )
        total = (batch.weights * each).mean()
        if recipe.sft_weight:
            total = total + recipe.sft_weight * (batch.liked * errors).sum() / len(batch.weights)
        moved = (predicted - batch.reference.predictions.float()).square().mean(dim=(1, 2, 3))
        of_opinions, of_preserved = batch.part(moved)
        if recipe.anchor_weight:
            total = total + recipe.anchor_weight * of_opinions.mean()
        if recipe.preserve_weight and batch.preserved:
            total = total + recipe.preserve_weight * of_preserved.mean()
        with torch.no_grad():
            margins = torch.cat([chosen - rejected, 2 * batch.signs * (single - zero)])
            self._note(margins, beta, errors=errors, batch=batch)
        return total

    @property
    def beta(self) -> torch.Tensor:
        """The strength that the next call will use, a scalar: the recipe's, or from the margins so far."""
        if self._recipe.beta is not None:
            return self._means.new_tensor(self._recipe.beta)
        return choose_beta(self._mean(0), target_gradient=self._recipe.target_gradient)

    @property
    def gradient_factor(self) -> float:
        """The running mean of sigmoid(-½·beta·margin): 0.5 where nothing is learned, near 0 where nothing is left."""
        return float(self._mean(1))

    @property
    def liked_error_ratio(self) -> float:
        """The policy's error on liked pictures that it trains on, over the reference's; 1 where there are none."""
        liked, reference = self._means[2:].tolist()
        return float(liked / reference) if reference else 1.0

    def snapshot(self) -> dict[str, torch.Tensor]:
        """The running means."""
        return {"loss.means": self._means, "loss.calls": torch.tensor(self._calls)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a snapshot."""
        self._means = state["loss.means"].to(self._means.device)
        self._calls = int(state["loss.calls"])

    def _mean(self, index: int) -> torch.Tensor:
        return self._means[index] / (1 - _MEMORY ** max(self._calls, 1))  # as Adam corrects its moments

    def _note(self, margins: torch.Tensor, beta: torch.Tensor, *, errors: torch.Tensor, batch: PreferenceBatch) -> None:
        liked = batch.liked / batch.liked.sum().clamp(min=1e-12)
        seen = torch.stack(
            [
                margins.abs().mean(),
                torch.sigmoid(-beta / 2 * margins).mean(),
                (liked * errors).sum(),
                (liked * batch.reference.errors).sum(),
            ]
        )
        self._means = _MEMORY * self._means + (1 - _MEMORY) * seen
        self._calls += 1

    def _check_start(self, rewards: torch.Tensor, errors: torch.Tensor, dtype: torch.dtype) -> None:
        # A fresh LoRA adds nothing, so all rewards are 0 and the first loss of a pair is ln 2.
        furthest = float((rewards.detach().abs() / errors.clamp(min=1e-12)).max())
        if furthest > _TOLERANCE[dtype]:  # not for NaN, which the loop names
            raise JobFailure(
                f"Before the first step the errors of policy and reference differ by {furthest:.2%}: "
                "the adapter is not fresh, or it was not off for the reference."
            )
