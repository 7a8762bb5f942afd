"""A LoRA for each row of a batch: what the rows of the next forwards wear, and nothing of it left afterwards."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from worker.engine.adapter_mix import Mix, is_mixable
from worker.engine.adapter_outfit import Outfit, Stack, form_of
from worker.engine.adapter_stack import LowRankStack
from worker.engine.pipeline import Pipeline, denoiser_name

_KEPT = 2
"""Outfits whose stacks are kept. Each holds its own copy of what its rows wear."""


class AdapterRows:
    """Dresses the rows of a pipeline's forwards. For one thread only.

    Where nobody wears anything a module is as it was, hooks and all. Base weights are never touched.

    Args:
        pipeline: Whose modules are dressed.
        is_compiled: Parts of it are; what was compiled knows of hooks that were there, and of no other.
    """

    def __init__(self, pipeline: Pipeline, *, is_compiled: bool = False) -> None:
        self._modules: dict[str, nn.Linear | nn.Conv2d] = {
            f"{component}.{path}": module
            for component in pipeline._lora_loadable_modules
            for path, module in getattr(pipeline, component).named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }
        self._dtype: torch.dtype = getattr(pipeline, denoiser_name(pipeline)).dtype
        self._device: torch.device = pipeline._execution_device
        self._known: OrderedDict[tuple[Mix, ...], Outfit] = OrderedDict()
        self._worn: Outfit | None = None
        self._hooks = {name: _Hook() for name in self._modules}
        self._handles: dict[str, RemovableHandle] = {}
        self._stay = is_compiled
        if is_compiled:
            for name, module in self._modules.items():
                module.register_forward_hook(self._hooks[name])

    def wear(self, mixes: Sequence[Mix]) -> None:
        """From now on row i of every input wears `mixes[i]`; a single one is worn by all rows, however many.

        Cheap where nothing changes. Raises ValueError: rows with different mixes, and one of them is not mixable.
        """
        worn = reduced(mixes)
        if not worn:
            self._take_off()
        elif self._worn is None or worn != self._worn.worn:
            self._put_on(self._outfit(worn))

    def form(self, mixes: Sequence[Mix]) -> Hashable:
        """Equal for mixes that one outfit can be exchanged for; None where something has to be worked out."""
        return form_of(reduced(mixes))

    def hand_over(self) -> Outfit | None:
        """Take everything off; what was worn is from now on in the care of who asked."""
        outfit = self._worn
        self._take_off()
        if outfit is not None:
            del self._known[outfit.worn]
        return outfit

    def forget(self) -> None:
        """Take everything off, and keep no copy of what was worn."""
        self._take_off()
        self._known.clear()

    def _outfit(self, worn: tuple[Mix, ...]) -> Outfit:
        """An outfit for these: one that is kept, or, where there are enough, the oldest exchanged, or a new one."""
        found = self._known.pop(worn, None)
        if found is None and len(self._known) >= _KEPT:
            oldest = next(iter(self._known))
            form = form_of(worn)
            if form is not None and form == form_of(oldest):
                found = self._known.pop(oldest)
                found.exchange(worn)
        if found is None:
            self._make_room(worn)
            found = Outfit(worn, dtype=self._dtype, device=self._device)
        self._known[worn] = found
        return found

    def _put_on(self, outfit: Outfit) -> None:
        for name in self._worn.stacks.keys() - outfit.stacks.keys() if self._worn else ():
            self._undress(name)
        self._worn = outfit
        for name, stack in outfit.stacks.items():
            hook, module = self._hooks[name], self._modules[name]
            hook.stack, hook.rows = stack, outfit.rows
            if not self._stay:
                if name not in self._handles:
                    self._handles[name] = module.register_forward_hook(hook)
            elif isinstance(stack, LowRankStack):
                stack.prepare(module.weight)

    def _take_off(self) -> None:
        for name in self._worn.stacks if self._worn else ():
            self._undress(name)
        self._worn = None

    def _undress(self, name: str) -> None:
        self._hooks[name].stack = None
        if handle := self._handles.pop(name, None):
            handle.remove()

    def _make_room(self, worn: tuple[Mix, ...]) -> None:
        # What is worked out is as large as the modules it changes.
        if not all(is_mixable(mix) for mixes in (worn, *self._known) for mix in mixes):
            self._known.clear()
        while len(self._known) >= _KEPT:
            self._known.popitem(last=False)


class _Hook:
    """The forward hook of one module: adds what its rows wear now."""

    def __init__(self) -> None:
        self.stack: Stack | None = None
        self.rows = 1

    def __call__(self, module: nn.Linear | nn.Conv2d, args: tuple[Any, ...], output: Any) -> Any:
        if self.stack is None:
            return output
        # Compiled, it would be for this number of rows only.
        if not torch.compiler.is_compiling() and self.rows > 1 and len(args[0]) != self.rows:
            raise RuntimeError(f"{self.rows} rows are dressed, and {len(args[0])} came.")
        return self.stack(module, args, output)


def reduced(mixes: Sequence[Mix]) -> tuple[Mix, ...]:
    """What is worn, once where all rows wear the same; nothing where nobody wears anything."""
    worn = tuple(mixes)
    if all(mix == worn[0] for mix in worn):
        worn = worn[:1]
    elif not all(is_mixable(mix) for mix in worn):
        raise ValueError("An adapter that is not of low rank takes a batch of its own.")
    return worn if any(worn) else ()
