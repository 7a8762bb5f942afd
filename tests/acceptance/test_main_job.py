"""The main job over HTTP: one request, one image; and a fine-tuning teaches what the base cannot draw."""

import io
import statistics
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cli.client import Client, Job, Picture
from cli.demo import NOVEL, TRAINING
from cli.system import System
from tiny import world
from tiny.scorer import read
from tiny.world import Caption, Color, Size

TAUGHT = 12
HELD_OUT = (
    Caption(NOVEL, Color.RED, Size.LARGE, Color.BLUE),
    Caption(NOVEL, Color.YELLOW, Size.LARGE, Color.PURPLE),
    Caption(NOVEL, Color.WHITE, Size.LARGE, Color.GREEN),
    Caption(NOVEL, Color.BLUE, Size.LARGE, Color.WHITE),
)
SEEDS = 2


def images_of(client: Client, job: Job) -> list[Image.Image]:
    """Download the pictures of a finished job."""
    contents = [client.download(output["url"]) for output in job["outputs"] if output["type"] == "image"]
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]


def draw(client: Client, caption: Caption, *, adapters: Sequence[str] = ()) -> list[Image.Image]:
    request = {"prompt": caption.text, "seed": 5, "num_images": SEEDS, "adapters": [{"ref": ref} for ref in adapters]}
    return images_of(client, client.finish(client.generate(request)))


def distance(image: Image.Image, caption: Caption) -> float:
    """Mean difference of pixels, 0 to 255, to the nearest of 64 pictures of the caption that nobody uploaded."""
    rng = np.random.default_rng(1234)
    pixels = np.asarray(image, dtype=np.float64)
    shown = (np.asarray(world.draw(caption, rng), dtype=np.float64) for _ in range(64))
    return min(float(np.abs(pixels - other).mean()) for other in shown)


def uploads() -> list[Picture]:
    rng = np.random.default_rng(7)
    pictures: list[Picture] = []
    while len(pictures) < TAUGHT:
        caption = world.complete(Caption(NOVEL), rng)
        if caption in HELD_OUT:
            continue
        file = io.BytesIO()
        world.draw(caption, rng).save(file, "PNG")
        pictures.append(Picture(f"{len(pictures)}.png", file.getvalue(), caption.text))
    return pictures


def test_the_same_request_gives_the_same_image(stack: System) -> None:
    request = {"prompt": "a small green heart on a white background", "seed": 11, "num_images": 2}
    first, second = (stack.client.finish(stack.client.generate(request)) for _ in range(2))
    digests = [[output["sha256"] for output in job["outputs"]] for job in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2, "each image of a request has a seed of its own"
    readings = [read(image) for image in images_of(stack.client, first)]
    assert [(seen.color, seen.background) for seen in readings] == [(Color.GREEN, Color.WHITE)] * 2


def test_a_fine_tuning_teaches_a_shape_and_leaves_the_base_as_it_was(stack: System) -> None:
    client = stack.client
    before = {caption: draw(client, caption) for caption in HELD_OUT}
    dataset = client.create_dataset("crescents", uploads())
    job = client.finish(client.fine_tune({"dataset_id": dataset["id"], "name": "crescent", "seed": 1, **TRAINING}))
    assert {"adapter", "adapter_kohya", "manifest"} <= {output["type"] for output in job["outputs"]}

    taught = {caption: draw(client, caption, adapters=["crescent"]) for caption in HELD_OUT}
    after = {caption: draw(client, caption) for caption in HELD_OUT}

    assert share_of_novel(taught) >= 0.75
    assert share_of_novel(before) <= 0.25
    assert mean_distance(taught) < 0.8 * mean_distance(before)
    for caption in HELD_OUT:
        assert [image.tobytes() for image in after[caption]] == [image.tobytes() for image in before[caption]]


def share_of_novel(drawn: dict[Caption, list[Image.Image]]) -> float:
    seen = [read(image).shape is NOVEL for images in drawn.values() for image in images]
    return sum(seen) / len(seen)


def mean_distance(drawn: dict[Caption, list[Image.Image]]) -> float:
    return statistics.mean(distance(image, caption) for caption, images in drawn.items() for image in images)
