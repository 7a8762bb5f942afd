"""The stored model: complete, small, safe to load, and drawing what it is asked."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import tiny
from tiny import evaluate, pipeline
from tiny.scorer import score
from tiny.world import is_held_out

MODEL = Path(tiny.__file__).parent / "lorikeet-tiny"


@pytest.fixture(scope="module")
def loaded() -> StableDiffusionPipeline:
    torch.set_num_threads(1)
    return pipeline.load(MODEL)


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    files = [path for path in MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}
    assert {path.parent.name for path in files if path.suffix == ".safetensors"} == {"unet", "vae", "text_encoder"}


def test_it_loads_offline_in_a_fresh_process_without_a_warning() -> None:
    script = (
        "from diffusers import StableDiffusionPipeline\n"
        "import warnings; warnings.simplefilter('error')\n"
        f"pipeline = StableDiffusionPipeline.from_pretrained({str(MODEL)!r})\n"
        "parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)\n"
        "print({str(part.dtype) for part in parts}, pipeline.safety_checker)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'torch.float32'} None"
    # Importing diffusers says twice that torchvision is not there; that is not about the model.
    said = [line for line in done.stderr.splitlines() if "warn" in line.lower() and "requires torchvision" not in line]
    assert said == []


def test_it_draws_held_out_captions(loaded: StableDiffusionPipeline) -> None:
    asked = evaluate.held_out(8)
    assert all(is_held_out(caption) for caption, _ in asked)
    figures = evaluate.measure(evaluate.paint(loaded, asked, steps=10))
    assert figures.pictures == 8
    assert figures.color >= 0.85
    assert figures.background >= 0.85
    assert figures.size >= 0.85
    assert figures.all_four >= 0.7


def test_the_same_seed_paints_the_same_picture(loaded: StableDiffusionPipeline) -> None:
    asked = evaluate.held_out(1)
    first, second = (next(evaluate.paint(loaded, asked, steps=4))[1] for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_the_prompt_decides_and_not_the_seed(loaded: StableDiffusionPipeline) -> None:
    asked = [(caption, 5) for caption, _ in evaluate.held_out(6)]
    painted = list(evaluate.paint(loaded, asked, steps=10))
    assert sum(score(image, caption).all_four for caption, image in painted) >= 4
