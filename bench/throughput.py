"""Images per second through the whole system ÷ a bare in-process diffusers loop at its best batch size.

`python -m bench.throughput`. All make the same pictures with the same seeds, steps and torch threads, and take turns;
the system's side includes HTTP, Postgres, Redis, PNG encoding and storage, and gets its requests one image at a time.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from bench import report
from cli.bootstrap import TINY
from cli.system import System, running

PROMPT = "a large red star on a blue background"
STEPS = 20
GUIDANCE = 3.0
THREADS = 1
CLIENTS = 8
BATCHES = (1, 4, 8)
TARGET = 0.9


def main() -> None:
    """Measure and print; the figures are images per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48, help="images of one round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    pipeline = StableDiffusionPipeline.from_pretrained(TINY, dtype=torch.float32, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as data:
        given = os.environ | {"DATA_DIR": data, "PORT": "5077", "TORCH_THREADS": str(THREADS)}
        with running(given, say=print) as system:
            wait_until_ready(system)
            through_system(system, 8)
            sides = {
                f"bare loop, batches of {batch}": partial(bare, pipeline, asked.images, batch=batch)
                for batch in BATCHES
            }
            sides["whole system"] = partial(through_system, system, asked.images)
            figures = report.interleave(
                asked.rounds, {name: partial(rate, side, asked.images) for name, side in sides.items()}
            )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    ratio = medians.pop("whole system") / max(medians.values())
    report.write("throughput", unit="images/s", figures=figures, ratio=ratio, target=TARGET)


def wait_until_ready(system: System) -> None:
    """Wait for the base model's check."""
    while any(model["status"] == "checking" for model in system.client.models()):
        time.sleep(0.2)


def rate(side: Callable[[], float], images: int) -> float:
    """Images per second."""
    return images / side()


def bare(pipeline: Any, images: int, *, batch: int) -> float:
    """Seconds that a plain loop takes."""
    start = time.perf_counter()
    for first in range(0, images, batch):
        generators = [torch.Generator("cpu").manual_seed(first + index) for index in range(batch)]
        pipeline([PROMPT] * batch, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators)
    return time.perf_counter() - start


def through_system(system: System, images: int) -> float:
    """Seconds from the first submit to the last job's end, one image a job."""
    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        requests = [{"prompt": PROMPT, "steps": STEPS, "guidance_scale": GUIDANCE, "seed": n} for n in range(images)]
        jobs = list(pool.map(system.client.generate, requests))
    for job in jobs:
        system.client.finish(job)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
