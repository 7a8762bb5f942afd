"""`lorikeet demo`: the main job from end to end, and a contact sheet to show for it."""

import io
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.console import Console

from cli.client import Picture
from cli.environment import read_given
from cli.interruption import stoppable
from cli.progress import follow
from cli.refusal import explained
from cli.system import System, running
from cli.up import first_picture
from core.infra import contact_sheet
from core.infra.contact_sheet import Row
from tiny import world

NOVEL = world.Shape.CRESCENT
PICTURES = 16
SEEDS = 6
NAME = "crescent"
# A shape that a small model never saw is more than attention alone can hold: the convolutions learn too.
TRAINING = {
    "rank": 16,
    "learning_rate": 1e-3,
    "steps": 200,
    "batch_size": 8,
    "min_snr_gamma": None,
    "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"],
}
PROMPTS = ("a large yellow crescent on a blue background", "a small red crescent on a white background")


def demo(console: Console) -> None:
    """Start everything, teach the base model a shape it cannot draw, show both side by side, and stop.

    Raises:
        Refusal: something went wrong on the way, said in one sentence.
    """
    began = time.monotonic()

    def lap(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {what}")

    with stoppable(), running(read_given(), say=lambda words: console.print(words, markup=False)) as system:
        lap(f"serving on {system.client.url}")
        lap(f"the first picture: {first_picture(system, console)}")
        adapter = _train(system, console)
        lap(f"the adapter {NAME} is trained")
        path = system.settings.data_dir / "demo.png"
        rows = [_row(system, console, prompt, use) for prompt in PROMPTS for use in (None, adapter)]
        taught = Row(f"{SEEDS} of the {PICTURES} pictures that were uploaded", _open(_drawn(PICTURES)[:SEEDS]))
        with explained(path):
            contact_sheet.write(path, f"Teaching a {NOVEL} to a model that has never seen one", [taught, *rows])
        lap(f"the contact sheet: {path}")
    lap("everything is stopped")


def _drawn(count: int) -> list[Picture]:
    """Pictures of the novel shape, each in other colors."""
    rng = np.random.default_rng(7)
    pictures = []
    for number in range(count):
        caption = world.complete(world.Caption(NOVEL), rng)
        file = io.BytesIO()
        world.draw(caption, rng).save(file, "PNG")
        pictures.append(Picture(f"{number:02}.png", file.getvalue(), caption.text))
    return pictures


def _train(system: System, console: Console) -> str:
    """Upload, fine-tune, wait; the reference of the adapter."""
    dataset = system.client.create_dataset(NAME, _drawn(PICTURES))
    request = {"dataset_id": dataset["id"], "name": NAME, "seed": 1, **TRAINING}
    job = follow(system.client, system.client.fine_tune(request), title=f"Training {NAME}", console=console)
    digest = next(output["sha256"] for output in job["outputs"] if output["type"] == "adapter")
    return f"sha256:{digest}"


def _row(system: System, console: Console, prompt: str, adapter: str | None) -> Row:
    request = {"prompt": prompt, "seed": 1, "num_images": SEEDS, "adapters": [{"ref": adapter}] if adapter else []}
    title = f"{prompt} ({'fine-tuned' if adapter else 'base'})"
    job = follow(system.client, system.client.generate(request), title=title, console=console)
    contents = [system.client.download(output["url"]) for output in job["outputs"]]
    return Row(title, [Image.open(io.BytesIO(content)) for content in contents])


def _open(pictures: Sequence[Picture]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(picture.content)) for picture in pictures]
