"""A training to submit: four small pictures, and as many steps as it is to last."""

import io
from typing import Any

from PIL import Image, ImageDraw

from cli.client import Client, Picture

_SIDE = 64


def make_lesson(client: Client, *, steps: int) -> dict[str, Any]:
    """Upload the pictures; the request."""
    dataset = client.create_dataset("circles", draw_circles(4))
    return {"dataset_id": dataset["id"], "name": "circles", "steps": steps, "rank": 4, "seed": 7}


def draw_circles(count: int, *, first: int = 0) -> list[Picture]:
    """Small pictures, each a little different."""
    return [Picture(f"{n}.png", _png(n % 16), f"a black circle, number {n}") for n in range(first, first + count)]


def _png(shift: int) -> bytes:
    image = Image.new("RGB", (_SIDE, _SIDE), "white")
    ImageDraw.Draw(image).ellipse((8 + shift, 16, 40 + shift, 48), outline="black", width=4)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
