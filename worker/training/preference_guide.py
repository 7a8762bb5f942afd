"""The guide of a preference training: averaged weights, looks at held-out opinions, early stop, the best weights."""

import math
from collections.abc import Sequence

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.domain.preference import HeldOutLook, PreferenceRecipe
from worker.training.held_out import HeldOut
from worker.training.learner import Learner
from worker.training.preference_loss import PreferenceLoss

LEAST_GRADIENT_FACTOR = 0.05
_SPIKE = 4.0  # times the running mean of the loss, and times the first
_MEMORY = 0.9
_ROUNDING = 1e-6  # of accuracies, which are means in float32


class PreferenceGuide:
    """Keeps an exponential moving average of the adapter and, of the averages looked at, the best.

    Args:
        learner: The one in training.
        loss: Its loss, which knows the gradient factor.
        held_out: What to look at every `recipe.evaluate_every` steps and after the last; None where nothing is held
            out, and then the last average is kept.
        recipe: Its `ema_decay`, `evaluate_every` and `steps`.
    """

    def __init__(
        self, learner: Learner, loss: PreferenceLoss, held_out: HeldOut | None, recipe: PreferenceRecipe
    ) -> None:
        self._loss, self._held_out, self._recipe = loss, held_out, recipe
        self._weights = {name: parameter.data for name, parameter in learner.parameters().items()}
        self._average = {name: weight.clone() for name, weight in self._weights.items()}
        self._best: dict[str, torch.Tensor] = {}
        self._looks: list[HeldOutLook] = []
        self._blend = get_ema_multi_avg_fn(recipe.ema_decay)
        self._first_loss, self._mean_loss, self._highest = torch.zeros(3, device=learner.device).unbind()
        self.stop_reason = f"all {recipe.steps} steps were taken"
        self.last_step = 0

    @property
    def looks(self) -> Sequence[HeldOutLook]:
        """What was seen, in order."""
        return tuple(self._looks)

    @property
    def best_step(self) -> int:
        """After which step the weights that are kept were as they are."""
        return self._looks[self._best_look()].step if self._looks else self.last_step

    def follow(self, step: int, loss: torch.Tensor) -> bool:
        """Average, and look where it is time to; gives whether the run ends here."""
        self._blend(list(self._average.values()), list(self._weights.values()), step)
        if step == 1:
            self._first_loss = self._mean_loss = loss
        self._highest = torch.maximum(self._highest, loss / torch.maximum(self._mean_loss, self._first_loss))
        self._mean_loss = _MEMORY * self._mean_loss + (1 - _MEMORY) * loss
        self.last_step = step
        if step % self._recipe.evaluate_every and step != self._recipe.steps:
            return False
        if self._held_out is not None:
            self._look(step, self._held_out)
        reason = self._find_reason()
        self._highest = torch.zeros_like(self._highest)
        if reason is None:
            return False
        self.stop_reason = f"after step {step} {reason}"
        return True

    @torch.no_grad()
    def settle(self) -> None:
        """Keep the best average, or the last where nothing is held out, on the way from the base as far as asked.

        Between a base and what it became, most of a gain is kept and little of a loss (WiSE-FT, arXiv 2109.01903).
        """
        for name, kept in (self._best if self._looks else self._average).items():
            self._weights[name].copy_(self._weakened(name, kept))

    def _weakened(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        is_up = ".lora_B." in name  # of the product that is added to the base
        return self._recipe.strength * weight if is_up else weight

    @torch.no_grad()
    def _look(self, step: int, held_out: HeldOut) -> None:
        learned = {name: weight.clone() for name, weight in self._weights.items()}
        try:
            for name, average in self._average.items():
                self._weights[name].copy_(self._weakened(name, average))
            self._looks.append(held_out.look(step))
        finally:
            for name, weight in learned.items():
                self._weights[name].copy_(weight)
        if self._best_look() == len(self._looks) - 1:
            self._best = {name: average.clone() for name, average in self._average.items()}

    def _best_look(self) -> int:
        assert self._held_out is not None, "it has looked"
        return best_of(self._looks, max_error_rise=self._recipe.max_error_rise, rows=len(self._held_out))

    def _find_reason(self) -> str | None:
        factor = self._loss.gradient_factor
        ratio = self._looks[-1].chosen_error_ratio if self._looks else self._loss.liked_error_ratio
        if not math.isfinite(factor + ratio):
            return None  # the loop names the step
        if factor < LEAST_GRADIENT_FACTOR:
            return f"the mean gradient factor was {factor:.3f}: the opinions are learned"
        if ratio > 1 + self._recipe.max_error_rise:
            return f"the error on liked pictures was {ratio - 1:.1%} above the base model's"
        if fell_twice(self._looks):
            return f"the accuracy on held-out opinions had fallen twice, to {self._looks[-1].accuracy:.2f}"
        if float(self._highest) > _SPIKE:
            return f"a loss had been {float(self._highest):.1f} times its running mean"
        return None

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Averages, best weights, looks, running means; the loss's as well."""
        rows = [
            [look.step, math.nan if look.accuracy is None else look.accuracy, look.margin, look.chosen_error_ratio]
            for look in self._looks
        ]
        return {
            **{f"average.{name}": weight for name, weight in self._average.items()},
            **{f"best.{name}": weight for name, weight in self._best.items()},
            **self._loss.snapshot(),
            "looks": torch.tensor(rows, dtype=torch.float64).reshape(-1, 4),
            "losses": torch.stack([self._first_loss, self._mean_loss, self._highest]),
            "last_step": torch.tensor(self.last_step),
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a snapshot."""
        for name, weight in self._average.items():
            weight.copy_(state[f"average.{name}"])
            if f"best.{name}" in state:
                self._best[name] = state[f"best.{name}"].to(weight.device)
        self._loss.restore(state)
        self._looks = [
            HeldOutLook(
                step=int(step),
                accuracy=None if math.isnan(accuracy) else accuracy,
                margin=margin,
                chosen_error_ratio=ratio,
            )
            for step, accuracy, margin, ratio in state["looks"].tolist()
        ]
        self._first_loss, self._mean_loss, self._highest = state["losses"].to(self._mean_loss.device).unbind()
        self.last_step = int(state["last_step"])


def best_of(looks: Sequence[HeldOutLook], *, max_error_rise: float, rows: int) -> int:
    """The index of the best look at so many held-out rows, of those whose error has not risen too far.

    Accuracies within a standard error of the highest, or a single row, are as good as each other (the one-SE rule,
    Breiman et al. 1984); of them it is the one with the widest margin.
    """
    sound = [look for look in looks if look.chosen_error_ratio <= 1 + max_error_rise] or looks
    highest = max(look.accuracy or 0.0 for look in sound)
    tolerance = max(math.sqrt(highest * (1 - highest) / rows), 1 / rows)
    alike = [look for look in sound if (look.accuracy or 0.0) >= highest - tolerance - _ROUNDING]
    return list(looks).index(max(alike, key=lambda look: look.margin))


def fell_twice(looks: Sequence[HeldOutLook]) -> bool:
    """Whether the accuracy of each of the last two looks is below that of the one before it."""
    last = [look.accuracy or 0.0 for look in looks[-3:]]
    return len(last) == 3 and last[0] > last[1] > last[2]
