"""Requests that come when they come, and three ways to serve them: one by one, whole batches, and the engine's."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from bench.peer import Diffusers

STEPS = (4, 50)
"""The fewest and the most that a request asks for."""


@dataclass(frozen=True)
class Arrival:
    """A request: when it comes, in seconds from the first, and how many steps it asks for."""

    at: float
    seed: int
    steps: int


@dataclass
class Served:
    """What became of the requests of one round. Seconds from arrival to picture, in the order of arrival."""

    latencies: list[float]
    useful_rows: int
    computed_rows: int = 0
    waited: list[float] = field(default_factory=list)


Serve = Callable[[Arrival], None]
"""Blocks until the picture is there."""


def poisson(count: int, *, rate: float, seed: int) -> list[Arrival]:
    """So many a second on the average; steps are even over their range."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, size=count))
    steps = rng.integers(STEPS[0], STEPS[1] + 1, size=count)
    return [Arrival(float(times[index] - times[0]), index, int(steps[index])) for index in range(count)]


def play(arrivals: Sequence[Arrival], serve: Serve, *, rows_each: int) -> Served:
    """Let each request come at its time, in a thread of its own, and watch how long it takes."""
    start = time.perf_counter()

    def ask(arrival: Arrival) -> float:
        time.sleep(max(0.0, start + arrival.at - time.perf_counter()))
        serve(arrival)
        return time.perf_counter() - start - arrival.at

    with Rows() as rows, ThreadPoolExecutor(len(arrivals)) as pool:
        latencies = list(pool.map(ask, arrivals))
    return Served(latencies, sum(arrival.steps for arrival in arrivals) * rows_each, rows.computed)


class Line:
    """A queue before one thread that serves up to `size` requests by one call of diffusers.

    With size 1 this is first come, first served. Otherwise it waits `window` seconds for others to join the first;
    who comes later waits for the whole call, which takes as many steps as the longest of its requests.
    """

    def __init__(self, diffusers: Diffusers, *, size: int = 1, window: float = 0.0) -> None:
        self._diffusers, self._size, self._window = diffusers, size, window
        self._inbox: queue.Queue[tuple[Arrival, threading.Event] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def serve(self, arrival: Arrival) -> None:
        done = threading.Event()
        self._inbox.put((arrival, done))
        done.wait()

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)
        while first := self._inbox.get():
            batch = [first, *self._joined()]
            steps = max(arrival.steps for arrival, _ in batch)
            self._diffusers.draw([arrival.seed for arrival, _ in batch], steps=steps)
            for _, done in batch:
                done.set()

    def _joined(self) -> Iterator[tuple[Arrival, threading.Event]]:
        end = time.perf_counter() + self._window
        for _ in range(self._size - 1):
            try:
                asked = self._inbox.get(timeout=max(0.0, end - time.perf_counter()))
            except queue.Empty:
                return
            assert asked is not None, "closed while somebody waits"
            yield asked


class Rows:
    """Counts the rows and the calls of every UNet while it is entered."""

    def __init__(self) -> None:
        self.computed = self.calls = 0

    def __enter__(self) -> "Rows":
        self._forward = UNet2DConditionModel.forward
        forward = self._forward

        def count(unet: Any, sample: Any, *args: Any, **options: Any) -> Any:
            self.computed += len(sample)
            self.calls += 1
            return forward(unet, sample, *args, **options)

        UNet2DConditionModel.forward = count
        return self

    def __exit__(self, *_: object) -> None:
        UNet2DConditionModel.forward = self._forward


@contextmanager
def closing(line: Line) -> Iterator[Line]:
    """Let go of its thread at the end."""
    try:
        yield line
    finally:
        line.close()
