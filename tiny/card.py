"""The model card of the tiny model: how it was trained, on what, and what it was measured to do."""

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

from tiny.evaluate import GUIDANCE, STEPS, Figures
from tiny.world import KNOWN_SHAPES, NOVEL_SHAPES, Color, full_captions, is_held_out

_TEXT = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# lorikeet-tiny

A complete Stable Diffusion pipeline of {parameters:.1f} M parameters that draws 64x64 pictures of one small world:
"a large red star on a blue background". It exists so that everything in this repository (serving, fine-tuning,
learning from feedback) can be tried and tested on a CPU with a model that really follows its prompt.

| | |
|---|---|
| shapes | {shapes} |
| colors, of the shape and of the background | {colors} |
| sizes | small, large |
| any of size, color and background may be left unsaid | "a star", "a large circle", "a heart on a green background" |
| never trained on, left for fine-tuning | {novel} |

## Parts

AutoencoderKL (64x64 to 4x16x16), CLIPTextModel (2 layers, width 64, 24 tokens, its own vocabulary; unknown words are
spelled in bytes), UNet2DConditionModel, DDIMScheduler (velocity prediction, zero terminal SNR, trailing timesteps).
Weights are stored in half precision and load in single precision. There is no safety checker.

## Training

`python -m tiny.train --steps {steps} --autoencoder-steps {autoencoder_steps} --pictures {pictures} --seed {seed}`
on a CPU with {threads} threads. Every picture is drawn by `tiny/world.py`; nothing else was used: no photographs, no
downloads, no pretrained weights. Of the {combinations} combinations of shape, color, size and background, {held_out}
(chosen by a hash of their caption) are never drawn for training. Half of the captions are full, one in ten is empty,
the others leave parts out. The autoencoder alone also saw the novel shapes and random doodles.

torch {torch}, diffusers {diffusers}, transformers {transformers}, Python {python}.

## Measured

`python -m tiny.evaluate` paints {painted} held-out full captions, a seed each, with DDIM {sampling_steps} steps at
guidance {guidance}, and reads them with the rules of `tiny/scorer.py`. Weights as stored:

| color | background | size | shape | all four |
|---|---|---|---|---|
| {figures.color:.3f} | {figures.background:.3f} | {figures.size:.3f} | {figures.shape:.3f} | {figures.all_four:.3f} |

## Limits

It knows nothing but this world. A prompt in other words gives a picture of this world all the same.
"""


def write(folder: Path, *, run: argparse.Namespace, figures: Figures, parameters: int) -> None:
    """Write README.md beside the weights."""
    combinations = list(full_captions())
    text = _TEXT.format(
        parameters=parameters / 1e6,
        shapes=", ".join(KNOWN_SHAPES),
        novel=", ".join(NOVEL_SHAPES),
        colors=", ".join(Color),
        steps=" ".join(str(goal) for goal in run.steps),
        autoencoder_steps=run.autoencoder_steps,
        pictures=run.pictures,
        seed=run.seed,
        threads=run.threads,
        combinations=len(combinations),
        held_out=sum(is_held_out(caption) for caption in combinations),
        painted=figures.pictures,
        sampling_steps=STEPS,
        guidance=GUIDANCE,
        figures=figures,
        python=platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "transformers")},
    )
    (folder / "README.md").write_text(text)
