"""Who goes along with a run of the loop: averages weights, looks at what is held out, says when to end."""

from typing import Protocol

import torch


class Guide(Protocol):
    """Follows a run step by step. It must not change the learner's weights before `settle`.

    Its whole state travels in every checkpoint, so that a resumed run is guided as if nothing had happened.
    """

    def follow(self, step: int, loss: torch.Tensor) -> bool:
        """Called after each optimizer step with the loss it went down; gives whether the run ends here."""

    def settle(self) -> None:
        """Called once, at the end: put the weights that are to be kept into the learner."""

    def snapshot(self) -> dict[str, torch.Tensor]:
        """The state, as tensors that may still change afterwards."""

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a snapshot of a run of the same plan."""


class NoGuide:
    """All steps are taken and the last weights are kept."""

    def follow(self, step: int, loss: torch.Tensor) -> bool:  # noqa: ARG002 - as a Guide is asked
        """Never ends a run."""
        return False

    def settle(self) -> None:
        """Leaves the weights as they are."""

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Nothing to go back to."""
