"""What the base or an adapter draws of fresh prompts: how often to a taste, how often as it was told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cli.client import Client
from cli.crowd import draw_all, open_caption, pictures_of
from tiny.scorer import score
from tiny.taste import Taste
from tiny.world import full_captions, is_held_out

_SEED = 2**33  # behind every visit's
_PER_CAPTION = 4


@dataclass(frozen=True)
class Sitting:
    """Shares of pictures, 0 to 1: of open captions to the taste, of full ones with all that they say.

    `shown` has the first open captions with their pictures.
    """

    taste: float
    fidelity: float
    shown: Sequence[tuple[str, Sequence[Image.Image]]]


class Exam:
    """The same captions and seeds for whoever sits it: half of the pictures of open captions, half of full ones."""

    def __init__(self, client: Client, taste: Taste, *, model: str, pictures: int) -> None:
        self._client, self._taste, self._model = client, taste, model
        rng = np.random.default_rng(_SEED)
        half = pictures // 2 // _PER_CAPTION
        full = [caption for caption in full_captions() if is_held_out(caption)]
        self._open = [open_caption(taste, rng) for _ in range(half)]
        self._full = [full[int(index)] for index in rng.choice(len(full), half, replace=False)]
        self.pictures = 2 * half * _PER_CAPTION

    def sit(self, ref: str | None, *, shown: int = 0, on_picture: Callable[[int], None]) -> Sitting:
        """Draw with an adapter, or None for the bare base, and mark what comes out; `on_picture` counts up."""
        captions = [*self._open, *self._full]
        requests = [self._request(caption.text, number, ref) for number, caption in enumerate(captions)]
        drawn = []
        for job in draw_all(self._client, requests):
            drawn.append(pictures_of(self._client, job))
            on_picture(len(drawn) * _PER_CAPTION)
        half = len(self._open)
        to_taste = [self._taste.degree(picture) for pictures in drawn[:half] for picture in pictures]
        as_told = [
            score(picture, caption).all_four
            for caption, pictures in zip(self._full, drawn[half:], strict=True)
            for picture in pictures
        ]
        return Sitting(
            taste=sum(to_taste) / len(to_taste),
            fidelity=sum(as_told) / len(as_told),
            shown=[(caption.text, pictures) for caption, pictures in zip(captions[:shown], drawn, strict=False)],
        )

    def _request(self, prompt: str, number: int, ref: str | None) -> dict[str, object]:
        return {
            "prompt": prompt,
            "model": self._model,
            "seed": _SEED + number * _PER_CAPTION,
            "num_images": _PER_CAPTION,
            "adapters": [{"ref": ref}] if ref else [],
        }
