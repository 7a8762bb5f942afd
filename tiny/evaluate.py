"""How often the stored model draws what a held-out caption says: `python -m tiny.evaluate`."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from tiny import pipeline as tiny_pipeline
from tiny.scorer import Score, score
from tiny.world import Caption, full_captions, is_held_out

STEPS, GUIDANCE = 20, 3.0
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of pictures (0 to 1) that show what their caption says."""

    pictures: int
    color: float
    background: float
    size: float
    shape: float
    all_four: float

    @property
    def line(self) -> str:
        shares = {name: share for name, share in asdict(self).items() if name != "pictures"}
        return f"{self.pictures} pictures: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items())


def held_out(count: int) -> list[tuple[Caption, int]]:
    """Held-out full captions with a seed for each; the captions go round, the seeds never repeat."""
    captions = [caption for caption in full_captions() if is_held_out(caption)]
    return [(captions[i % len(captions)], i) for i in range(count)]


def paint(
    pipeline: StableDiffusionPipeline,
    asked: list[tuple[Caption, int]],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> Iterator[tuple[Caption, Image.Image]]:
    """Paint each caption with its seed."""
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        images = pipeline(
            [caption.text for caption, _ in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for _, seed in part],
        ).images
        yield from zip((caption for caption, _ in part), images, strict=True)


def measure(painted: Iterator[tuple[Caption, Image.Image]]) -> Figures:
    """Score pictures against their captions."""
    scores: list[Score] = [score(image, caption) for caption, image in painted]
    count = len(scores)
    return Figures(
        pictures=count,
        color=sum(s.color for s in scores) / count,
        background=sum(s.background for s in scores) / count,
        size=sum(s.size for s in scores) / count,
        shape=sum(s.shape for s in scores) / count,
        all_four=sum(s.all_four for s in scores) / count,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "lorikeet-tiny")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    painted = paint(
        tiny_pipeline.load(asked.model), held_out(asked.pictures), steps=asked.steps, guidance=asked.guidance
    )
    figures = measure(painted)
    print(json.dumps(asdict(figures)) if asked.json else figures.line)


if __name__ == "__main__":
    main()
