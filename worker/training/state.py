"""What changes while a run goes on: weights, moments, generators. Taken and put back to the last bit."""

import torch

from worker.training.checkpoint import Snapshot
from worker.training.learner import Learner

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class TrainingState:
    """The moving parts of a run, fresh from a seed or out of a snapshot."""

    def __init__(self, learner: Learner, *, weight_decay: float, seed: int) -> None:
        torch.manual_seed(seed)  # for models with dropout; noise has a generator of its own
        self.step = 0
        self.generator = torch.Generator().manual_seed(seed)
        self._parameters = learner.parameters()
        self.weights = list(self._parameters.values())
        # One kernel for all weights: a LoRA has many small ones.
        self.optimizer = torch.optim.AdamW(self.weights, weight_decay=weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(learner.device.type, enabled=learner.dtype is torch.float16)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def descend(self, *, max_gradient_norm: float) -> torch.Tensor:
        """Take one step down the gradients and forget them; gives their norm before clipping, a scalar."""
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, max_gradient_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.step += 1
        return norm

    def snapshot(self, *, position: int, first_loss: float, guide: dict[str, torch.Tensor]) -> Snapshot:
        """A picture of this moment. Tensors are not copied: write it down before the next step."""
        return Snapshot(
            step=self.step,
            position=position,
            first_loss=first_loss,
            scaler=self.scaler.state_dict(),
            adapter=dict(self._parameters),
            optimizer={
                f"{name}.{moment}": self.optimizer.state[parameter][moment]
                for name, parameter in self._parameters.items()
                for moment in _MOMENTS
            },
            random={"noise": self.generator.get_state(), "torch": torch.get_rng_state()}
            | {f"cuda.{index}": state for index, state in enumerate(_cuda_states())},
            guide=guide,
        )

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of a run of the same plan."""
        self.step = snapshot.step
        for name, parameter in self._parameters.items():
            parameter.copy_(snapshot.adapter[name])
            self.optimizer.state[parameter] = {
                moment: snapshot.optimizer[f"{name}.{moment}"].to(parameter.device) for moment in _MOMENTS
            }
        self.scaler.load_state_dict(snapshot.scaler)
        self.generator.set_state(snapshot.random["noise"])
        torch.set_rng_state(snapshot.random["torch"])
        states = [state for name, state in sorted(snapshot.random.items()) if name.startswith("cuda.")]
        if len(states) == len(_cuda_states()):  # another machine may have other devices
            torch.cuda.set_rng_state_all(states)


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
