"""Train the tiny model from nothing: `python -m tiny.train` (`make tiny-model`)."""

import argparse
import logging
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tiny import autoencoder, card, corpus, evaluate, pipeline, tokenizer
from tiny.denoiser import DenoiserTrainer

log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_VARIED_PICTURES = 8_000


def main() -> None:
    asked = _arguments()
    console = Console()
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    torch.set_num_threads(asked.threads)
    for quiet in (diffusers.utils.logging, transformers.utils.logging):
        quiet.disable_progress_bar()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        run(asked, progress)


def run(asked: argparse.Namespace, progress: Progress) -> None:
    """Draw the world, train the autoencoder, then text encoder and denoiser, and store the pipeline.

    A run that was cut off resumes from the work folder; the result is the same.
    """
    began = time.monotonic()
    log.info("drawing %d pictures", asked.pictures)
    world = corpus.draw_corpus(asked.pictures, seed=asked.seed)
    varied = corpus.draw_varied(_VARIED_PICTURES, seed=asked.seed)
    pictures = torch.from_numpy(np.concatenate([world.pictures, varied]))
    vae = autoencoder.train(
        pictures,
        steps=asked.autoencoder_steps,
        seed=asked.seed,
        path=asked.work / "autoencoder.safetensors",
        progress=progress,
    )
    words = tokenizer.build()
    trainer = DenoiserTrainer(words, seed=asked.seed, path=asked.work / "denoiser.safetensors")

    def inspect(now: DenoiserTrainer) -> None:
        pipeline.save(asked.out, vae=vae, denoiser=now.averaged, tokenizer=words)
        figures = evaluate.measure(evaluate.paint(pipeline.load(asked.out), evaluate.held_out(asked.inspected)))
        log.info("step %d, %.0f s: %s", now.step, time.monotonic() - began, figures.line)

    latents = autoencoder.encode(vae, torch.from_numpy(world.pictures))
    for goal in asked.steps:
        trainer.train(
            latents,
            world.labels,
            steps=goal,
            progress=progress,
            every=asked.inspect_every,
            inspect=inspect,
        )
    pipeline.save(asked.out, vae=vae, denoiser=trainer.averaged, tokenizer=words)
    figures = evaluate.measure(evaluate.paint(pipeline.load(asked.out), evaluate.held_out(256)))
    log.info("stored in %s; %s", asked.out, figures.line)
    card.write(
        asked.out,
        run=asked,
        figures=figures,
        parameters=sum(p.numel() for p in [*vae.parameters(), *trainer.averaged.parameters]),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[8_000, 10_500],
        help="of the denoiser; each further number takes the run on to that step, on its own learning rate curve",
    )
    parser.add_argument("--autoencoder-steps", type=int, default=2_500)
    parser.add_argument("--pictures", type=int, default=30_000, help="drawn for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inspect-every", type=int, default=1_000, help="steps between stored intermediate models")
    parser.add_argument("--inspected", type=int, default=64, help="pictures painted at each inspection")
    parser.add_argument("--work", type=Path, default=Path("data/tiny-training"), help="checkpoints, to resume from")
    parser.add_argument("--out", type=Path, default=_HERE / "lorikeet-tiny")
    return parser.parse_args()


if __name__ == "__main__":
    main()
