"""Where a training run stands, in one safetensors file: weights, optimizer moments, step."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(path: Path, *, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write atomically: a run that is killed here resumes from the file before."""
    tensors = {
        f"{name}.{key}": value.detach().contiguous().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, parameter in enumerate(_parameters(optimizer)):
        for moment in _MOMENTS:
            tensors[f"optimizer.{index}.{moment}"] = optimizer.state[parameter][moment].contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    save_file(tensors, draft, metadata={"step": str(step)})
    draft.replace(path)


def load(path: Path, *, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Restore in place and return the step; 0 where there is no checkpoint.

    Raises:
        RuntimeError: the checkpoint is of another architecture.
    """
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        step = int(file.metadata()["step"])
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for index, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {moment: tensors[f"optimizer.{index}.{moment}"] for moment in _MOMENTS}
    return step


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
