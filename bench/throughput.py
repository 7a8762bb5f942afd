"""Images per second through the whole system ÷ a bare in-process diffusers loop at its best batch size.

`python -m bench.throughput`. All make the same pictures with the same seeds, steps and torch threads, and take turns;
the system's side includes HTTP, Postgres, Redis, PNG encoding and storage, and gets its requests one image at a time.
So do two servers of others: a naive Celery worker, and LitServe with batching, in an environment of its own.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2 as httpx
import torch
from celery import Celery
from diffusers import StableDiffusionPipeline

from bench import report
from bench.rival.environment import python_with
from bench.rival.process import CELERY, at_work
from cli.bootstrap import TINY
from cli.system import System, running

PROMPT = "a large red star on a blue background"
STEPS = 20
GUIDANCE = 3.0
THREADS = 1
CLIENTS = 8
BATCHES = (1, 4, 8)
TARGET = 0.9
LITSERVE = "litserve==0.2.19"
_LITSERVE_PORT = 5081
_DRAWS = {"MODEL": str(TINY), "TORCH_THREADS": str(THREADS)}
_PATIENCE_SECONDS = 300.0


def main() -> bool:
    """Measure and print; the figures are images per second; whether the target is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48, help="images of one round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, dtype=torch.float32, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as data:
        given = os.environ | {"DATA_DIR": data, "PORT": "5077", "TORCH_THREADS": str(THREADS)}
        with (
            running(given, say=print) as system,
            celery(system.settings.redis_url) as queue,
        ):
            wait_until_ready(system)
            sides: dict[str, Callable[[int], float]] = {
                **{f"bare loop, batches of {batch}": partial(bare, pipeline, batch=batch) for batch in BATCHES},
                "naive Celery": partial(through_celery, queue),
                "LitServe": through_litserve,
                "whole system": partial(through_system, system),
            }
            for side in sides.values():
                side(CLIENTS)
            figures = report.interleave(
                asked.rounds, {name: partial(rate, side, asked.images) for name, side in sides.items()}
            )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    ratio = medians["whole system"] / max(value for name, value in medians.items() if name.startswith("bare loop"))
    return report.write("throughput", unit="images/s", figures=figures, ratio=ratio, target=TARGET)


def wait_until_ready(system: System) -> None:
    """Wait for the base model's check."""
    while any(model["status"] == "checking" for model in system.client.models()):
        time.sleep(0.2)


@contextmanager
def celery(redis_url: str) -> Iterator[Celery]:
    """A naive worker at work, and what its tasks are sent with."""
    url = redis_url.rpartition("/")[0] + "/7"  # a database of its own
    with at_work(CELERY, _DRAWS | {"REDIS_URL": url}), Celery(broker=url, backend=url) as queue:
        yield queue


@contextmanager
def litserve() -> Iterator[str]:
    """LitServe at work, and where."""
    command = [str(python_with(LITSERVE)), "-m", "bench.rival.lit_serve"]
    with at_work(command, _DRAWS | {"PORT": str(_LITSERVE_PORT)}) as process:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _answers(f"http://127.0.0.1:{_LITSERVE_PORT}/health"):
            assert process.poll() is None, "LitServe ended"
            assert time.monotonic() < deadline, "LitServe did not answer"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{_LITSERVE_PORT}/predict"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def rate(side: Callable[[int], float], images: int) -> float:
    """Images per second."""
    return images / side(images)


def request_of(number: int) -> dict[str, Any]:
    """What is asked for of all but the bare loop."""
    return {"prompt": PROMPT, "steps": STEPS, "guidance_scale": GUIDANCE, "seed": number}


def bare(pipeline: Any, images: int, *, batch: int) -> float:
    """Seconds that a plain loop takes."""
    start = time.perf_counter()
    for first in range(0, images, batch):
        generators = [torch.Generator("cpu").manual_seed(first + index) for index in range(batch)]
        pipeline([PROMPT] * batch, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators)
    return time.perf_counter() - start


def through_celery(queue: Celery, images: int) -> float:
    """Seconds from the first task sent to the last result."""
    start = time.perf_counter()
    waiting = [queue.send_task("draw", [request_of(number)]) for number in range(images)]
    for result in waiting:
        result.get(timeout=_PATIENCE_SECONDS)
    return time.perf_counter() - start


def through_litserve(images: int) -> float:
    """Seconds from the first request to the last answer, each in a request of its own.

    It runs in its turns only: while it waits it keeps a tenth of a core busy, which others would miss.
    """
    with litserve() as url, ThreadPoolExecutor(2 * CLIENTS) as pool:  # the next batch is there before the last is done

        def ask(number: int) -> None:
            httpx.post(url, json=request_of(number), timeout=_PATIENCE_SECONDS, trust_env=False).raise_for_status()

        list(pool.map(ask, range(CLIENTS)))
        start = time.perf_counter()
        list(pool.map(ask, range(images)))
        return time.perf_counter() - start


def through_system(system: System, images: int) -> float:
    """Seconds from the first submit to the last job's end, one image a job; a client waits for its job."""

    def ask(number: int) -> None:
        job = system.client.generate(request_of(number), wait_seconds=60)
        assert job["status"] == "succeeded", job

    start = time.perf_counter()
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        list(pool.map(ask, range(images)))
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
