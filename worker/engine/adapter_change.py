"""What an adapter does to the weight of one module: a product of low rank, or something that has to be worked out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Change(Protocol):
    """What is added to the weight of one module. Never altered once made."""

    def delta(self, shape: torch.Size) -> Tensor:
        """ΔW at weight 1 in the module's shape, at least in float32. Raises RuntimeError where it does not fit."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """ΔW = scale · up · down; `down` is (rank, in) or (rank, in, height, width), `up` is (out, rank)."""

    down: Tensor
    up: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """How many directions it adds."""
        return self.up.shape[1]

    def delta(self, shape: torch.Size) -> Tensor:
        """See Change."""
        return (_exact(self.up) @ _exact(self.down).flatten(1) * self.scale).reshape(shape)


@dataclass(frozen=True, eq=False)
class Hadamard:
    """LoHa: ΔW = scale · (a₁b₁) ∘ (a₂b₂) (Hyeon-Woo et al., arXiv 2108.06098); `core` are those of convolutions."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    core1: Tensor | None
    core2: Tensor | None
    scale: float

    def delta(self, shape: torch.Size) -> Tensor:
        """See Change."""
        product = _product(self.a1, self.b1, self.core1) * _product(self.a2, self.b2, self.core2)
        return (product * self.scale).reshape(shape)


@dataclass(frozen=True, eq=False)
class Kronecker:
    """LoKr: ΔW = scale · left ⊗ right (Yeh et al., arXiv 2309.14859); each is a matrix or a product."""

    left: Tensor
    left_b: Tensor | None
    right: Tensor
    right_b: Tensor | None
    core: Tensor | None
    scale: float

    def delta(self, shape: torch.Size) -> Tensor:
        """See Change."""
        left, right = _product(self.left, self.left_b, None), _product(self.right, self.right_b, self.core)
        left = left.reshape(*left.shape, *[1] * (right.dim() - 2))
        return (torch.kron(left, right.contiguous()) * self.scale).reshape(shape)


@dataclass(frozen=True, eq=False)
class Full:
    """ΔW itself."""

    weight: Tensor

    def delta(self, shape: torch.Size) -> Tensor:
        """See Change."""
        return _exact(self.weight).reshape(shape)


@dataclass(frozen=True, eq=False)
class Biased:
    """A change that also moves the module's bias, by `shift` (out,)."""

    change: Change
    shift: Tensor

    def delta(self, shape: torch.Size) -> Tensor:
        """See Change."""
        if self.shift.shape != shape[:1]:
            raise RuntimeError(f"its bias has the shape {tuple(self.shift.shape)}")
        return self.change.delta(shape)


@dataclass(frozen=True, eq=False)
class Decomposed:
    """DoRA: the changed weight is scaled to `magnitude` (Liu et al., arXiv 2402.09353).

    `magnitude` has the module's dimensions, of size 1 where the norm is taken: (out, 1) is the norm of each output.
    """

    change: Change
    magnitude: Tensor

    def delta(self, shape: torch.Size) -> Tensor:
        """Without the scaling."""
        if self.magnitude.dim() != len(shape) or torch.broadcast_shapes(self.magnitude.shape, shape) != shape:
            raise RuntimeError(f"its magnitude has the shape {tuple(self.magnitude.shape)}")
        return self.change.delta(shape)

    def scaling(self, weight: Tensor) -> Tensor:
        """What brings `weight` to the magnitude, by multiplication."""
        across = [axis for axis, size in enumerate(self.magnitude.shape) if size == 1]
        return _exact(self.magnitude) / torch.linalg.vector_norm(weight, dim=across, keepdim=True)


def worn_weight(base: Tensor, worn: Sequence[tuple[Change, float]]) -> Tensor:
    """The weight that behaves as `base` does with these changes, each with its weight, one after the other.

    As in PEFT, DoRA scales what came before it too, by a norm that knows of no other adapter.
    """
    base = _exact(base)
    weight = base
    for each, strength in worn:
        change = each.change if isinstance(each, Biased) else each
        delta = change.delta(base.shape) * strength
        weight = weight + delta
        if isinstance(change, Decomposed):
            weight = weight * change.scaling(base + delta)
    return weight


def scales(change: Change) -> bool:
    """Whether it changes the module at weight 0 too, as DoRA does in PEFT."""
    return isinstance(change.change if isinstance(change, Biased) else change, Decomposed)


def tensors_of(change: Change) -> list[Tensor]:
    """Every tensor that a change holds, in the order of `moved`."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    moved(change, keep)
    return found


def moved(change: T, move: Callable[[Tensor], Tensor]) -> T:
    """The same change with each of its tensors replaced."""
    parts: dict[str, Any] = {}
    for field in fields(change):  # type: ignore[arg-type]
        value = getattr(change, field.name)
        if isinstance(value, Tensor):
            parts[field.name] = move(value)
        elif value is not None and not isinstance(value, float):
            parts[field.name] = moved(value, move)
    return replace(change, **parts)  # type: ignore[type-var]


def _product(a: Tensor, b: Tensor | None, core: Tensor | None) -> Tensor:
    """a, a·b, or the product of a Tucker core (i, j, height, width) with a (i, out) and b (j, in)."""
    if b is None:
        return _exact(a)
    if core is None:
        return _exact(a) @ _exact(b).flatten(1)
    return torch.einsum("ij..., ip, jr -> pr...", _exact(core), _exact(a), _exact(b))


def _exact(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
