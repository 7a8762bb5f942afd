"""The loss of each step, kept on the device and looked at together: reading one number stops a GPU."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from core.domain.errors import TrainingDiverged
from core.domain.training import TrainingMetric

_SECONDS = 1.0
_MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class _Entry:
    step: int
    loss: torch.Tensor
    gradient_norm: torch.Tensor
    learning_rate: float


class Journal:
    """Collects steps and hands them on about once a second.

    Args:
        record: Gets the metrics, ascending by step.
        may_overflow: Whether a gradient may be infinite without harm: float16's loss scale skips such a step, and
            its metric says 0.
    """

    def __init__(self, record: Callable[[Sequence[TrainingMetric]], None], *, may_overflow: bool) -> None:
        self.first_loss = self.last_loss = math.nan
        self._record, self._may_overflow = record, may_overflow
        self._entries: list[_Entry] = []
        self._flushed_at = time.monotonic()

    def add(self, step: int, *, loss: torch.Tensor, gradient_norm: torch.Tensor, learning_rate: float) -> None:
        """Note a step.

        Raises:
            TrainingDiverged: this step or one before it gave a number that is not finite.
        """
        self._entries.append(_Entry(step, loss, gradient_norm, learning_rate))
        if len(self._entries) >= _MOST_STEPS or time.monotonic() - self._flushed_at >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand on what is there.

        Raises:
            TrainingDiverged: a loss or gradient is not finite; the steps before it are handed on first.
        """
        entries, self._entries = self._entries, []
        self._flushed_at = time.monotonic()
        if not entries:
            return
        figures = torch.stack([figure for e in entries for figure in (e.loss, e.gradient_norm)]).tolist()
        metrics: list[TrainingMetric] = []
        broken: str | None = None
        for entry, loss, norm in zip(entries, figures[::2], figures[1::2], strict=True):
            skipped = self._may_overflow and not math.isfinite(norm)
            if not math.isfinite(loss) or not (math.isfinite(norm) or skipped):
                what = "gradient" if math.isfinite(loss) else "loss"
                broken = f"The {what} of step {entry.step} is not finite: try a lower learning rate."
                break
            shown = 0.0 if skipped else norm
            metrics.append(
                TrainingMetric(step=entry.step, loss=loss, learning_rate=entry.learning_rate, gradient_norm=shown)
            )
        self._hand_on(metrics)
        if broken is not None:
            raise TrainingDiverged(broken)

    def _hand_on(self, metrics: list[TrainingMetric]) -> None:
        if metrics:
            self.first_loss = metrics[0].loss if math.isnan(self.first_loss) else self.first_loss
            self.last_loss = metrics[-1].loss
            self._record(metrics)
