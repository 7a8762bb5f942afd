"""What a picture asks a network, and how questions of many pictures become one."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

SHARED = frozenset({"img_ids", "txt_ids"})
"""Inputs without a row for each picture: where things are in it, the same for all that share a call."""
WHOLE = "whole"
"""No network: a question for a picture as a whole, which takes all the room there is, and no other with it."""
_ALL_ROWS = 1 << 30


@dataclass(frozen=True, eq=False)
class Question:
    """A call of a network by one picture: the first tensor's first dimension are its rows.

    `network` is its name in the pipeline, such as `unet`, `transformer` or `vae.decode`.
    """

    network: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> int:
        """How many rows of a batch it takes: two where it is guided, since the negative prompt has its own."""
        if self.network == WHOLE:
            return _ALL_ROWS
        return len(next(leaf for leaf in _leaves(self.arguments, self.options) if _is_rows(leaf)))

    @cached_property
    def shape(self) -> Hashable:
        """Questions of one shape can be answered by one call."""
        if self.network == WHOLE:
            return WHOLE
        rows = self.rows
        return (self.network, _shape_of(self.arguments, rows), _shape_of(self.options, rows))


def merge(questions: Sequence[Question]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and options of the one call that answers questions of one shape, on the device of their rows.

    Those of a single one stay as they are.
    """
    first = questions[0]
    device = next(leaf for leaf in _leaves(first.arguments, first.options) if _is_rows(leaf)).device

    def move(leaf: Any) -> Any:
        return leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf

    if len(questions) == 1:
        return mapped(first.arguments, move), dict(mapped(first.options, move))
    rows = [question.rows for question in questions]
    arguments = _merged([question.arguments for question in questions], rows, None)
    options = _merged([question.options for question in questions], rows, None)
    return mapped(arguments, move), mapped(options, move)


def split(answer: Any, questions: Sequence[Question]) -> list[Any]:
    """Each question's part of the answer, which is a tensor or a tuple of tensors."""
    if len(questions) == 1:
        return [answer]
    rows = [question.rows for question in questions]
    if isinstance(answer, Tensor):
        return list(answer.split(rows))
    return list(zip(*(part.split(rows) for part in answer), strict=True))


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same tree with each of its leaves changed, in order."""
    if isinstance(tree, Mapping):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(mapped(value, change) for value in tree)
    return change(tree)


def _is_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0


def _leaves(*trees: Any) -> Any:
    for tree in trees:
        if isinstance(tree, Mapping):
            yield from _leaves(*tree.values())
        elif isinstance(tree, tuple | list):
            yield from _leaves(*tree)
        else:
            yield tree


def _shape_of(tree: Any, rows: int) -> Hashable:
    if isinstance(tree, Mapping):
        return tuple(
            (key, _place(value) if key in SHARED and isinstance(value, Tensor) else _shape_of(value, rows))
            for key, value in tree.items()
        )
    if isinstance(tree, tuple | list):
        return tuple(_shape_of(value, rows) for value in tree)
    if not isinstance(tree, Tensor):
        return tree if isinstance(tree, Hashable) else repr(tree)
    if tree.ndim == 0:
        return "time"  # integers of one solver, fractions of another
    return (tuple(tree.shape[1:]) if len(tree) == rows else tuple(tree.shape), tree.dtype)


def _place(ids: Tensor) -> Hashable:
    """What it says: a wide picture and a high one may have as many places, but not the same."""
    known = vars(ids)
    if "place" not in known:  # read from the device once, not at every step
        said = hashlib.sha256(ids.float().cpu().numpy().tobytes()).digest()
        known["place"] = (tuple(ids.shape), ids.dtype, said)
    place: Hashable = known["place"]
    return place


def _merged(trees: Sequence[Any], rows: Sequence[int], name: str | None) -> Any:
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: _merged([tree[key] for tree in trees], rows, key) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(_merged(list(parts), rows, name) for parts in zip(*trees, strict=True))
    if not isinstance(first, Tensor) or name in SHARED:
        return first
    if all(tree.ndim == 0 for tree in trees):
        return torch.cat([tree.to(torch.float32).expand(count) for tree, count in zip(trees, rows, strict=True)])
    return torch.cat(list(trees))
