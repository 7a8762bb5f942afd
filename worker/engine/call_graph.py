"""Calls of a network on a CUDA device, replayed where launching their kernels takes longer than running them."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import structlog
import torch
from torch import Tensor

from worker.engine.adapter_mix import Mix
from worker.engine.adapter_outfit import Outfit
from worker.engine.adapter_row import AdapterRows, reduced
from worker.engine.question import mapped

_CALLS_BEFORE = 4
"""Calls of a form before one is recorded: what happens once or twice does not pay."""
_LAUNCHING_SHARE = 0.5
"""Of the time of a call on an idle device: above it the device waits for the host, and a graph pays."""
_KEPT = 24
"""Graphs, those used last. Each keeps a copy of what its rows wear; what they compute in is shared."""
_COUNTED = 1_000
"""Forms whose calls are counted: where every adapter has ranks of its own there is no end of them."""
_log = structlog.get_logger()


class CallGraphs:
    """One network's calls, by their form: sizes, kinds of numbers, and what the rows wear but for its numbers.

    For one thread only. What a graph answers is what the network answers, bit by bit.

    Args:
        network: Gives a tensor or a tuple of tensors, and never waits for the device.
        rows: What dresses its rows.
    """

    def __init__(self, network: Callable[..., Any], rows: AdapterRows) -> None:
        self.replays = 0
        self._network, self._rows = network, rows
        self._calls: Counter[tuple[Hashable, ...]] = Counter()
        self._graphs: OrderedDict[tuple[Hashable, ...], _Graph] = OrderedDict()
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, mixes: Sequence[Mix], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """The network's answer to arguments and options whose row i wears `mixes[i]`."""
        form = (self._rows.form(mixes), tuple(options), _form_of((arguments, options)))
        graph = self._graphs.get(form)
        if graph is None:
            self._rows.wear(mixes)
            graph = self._recorded(form, arguments, options)
        if graph is None:
            return self._network(*arguments, **options)
        self._graphs.move_to_end(form)
        self.replays += 1
        return graph.replay(reduced(mixes), arguments, options)

    def forget(self) -> None:
        """Give back the memory of all graphs."""
        self._graphs.clear()
        self._calls.clear()

    def _recorded(
        self, form: tuple[Hashable, ...], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> "_Graph | None":
        """A graph of this call, once it was made so often that one may pay, and if it does."""
        if len(self._calls) >= _COUNTED:
            self._calls.clear()
        self._calls[form] += 1
        if form[0] is None or self._calls[form] != _CALLS_BEFORE:
            return None
        while len(self._graphs) >= _KEPT:
            gone, _ = self._graphs.popitem(last=False)
            del self._calls[gone]
        if self._launching_share(arguments, options) < _LAUNCHING_SHARE:
            return None
        try:
            graph = _Graph(self._network, arguments, options, pool=self._pool, stream=self._stream)
        except RuntimeError as error:
            # Some network waits for the device, or asks for memory that is not there: it goes on without.
            _log.info("call_not_recorded", network=type(self._network).__name__, reason=str(error).splitlines()[0])
            return None
        graph.outfit = self._rows.hand_over()
        self._graphs[form] = graph
        return graph

    def _launching_share(self, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> float:
        with torch.cuda.stream(self._stream):
            torch.cuda.synchronize()
            start = time.perf_counter()
            self._network(*arguments, **options)
            launched = time.perf_counter()
            torch.cuda.synchronize()
            return (launched - start) / (time.perf_counter() - start)


class _Graph:
    """A recorded call, the memory that it reads, and what its rows wear."""

    def __init__(
        self,
        network: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        *,
        pool: Any,
        stream: torch.cuda.Stream,
    ) -> None:
        self.outfit: Outfit | None = None
        self._given: list[Tensor] = []
        own_arguments, own_options = mapped((arguments, dict(options)), self._own)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads bring adapters meanwhile.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._answer = network(*own_arguments, **own_options)

    def replay(self, worn: Sequence[Mix], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        if self.outfit is not None:
            self.outfit.exchange(worn)
        for place, tensor in zip(self._given, _tensors_of((arguments, options)), strict=True):
            place.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return mapped(self._answer, torch.Tensor.clone)

    def _own(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        self._given.append(leaf.clone())
        return self._given[-1]


def _tensors_of(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    mapped(tree, lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None)
    return found


def _form_of(tree: Any) -> Hashable:
    found: list[Hashable] = []
    mapped(tree, lambda leaf: found.append((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf)))
    return tuple(found)
