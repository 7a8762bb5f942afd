"""A crowd of simulated users with one hidden taste: they ask for pictures over HTTP and say which they like better."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from cli.client import Client, Job
from tiny.taste import Taste, draw_caption
from tiny.world import Caption

IN_FLIGHT = 8
"""Requests at once: enough to keep the worker busy while others look at their pictures."""

_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Visit:
    """One user asked for two pictures; `feedback` is what came of it, None where neither was better."""

    job: Job
    feedback: dict[str, object] | None

    @property
    def arms(self) -> set[str]:
        """The sides of a live comparison that drew the pictures."""
        return {output["arm"] for output in self.job["outputs"] if output.get("arm")}


class Crowd:
    """`users` people who share a taste. The n-th visit of a crowd is the same in every run, whoever comes first."""

    def __init__(self, client: Client, taste: Taste, *, users: int, model: str, seed: int = 0) -> None:
        self._client, self._taste, self._model, self._seed = client, taste, model, seed
        self.names = [f"{taste.name}-{uuid4().hex[:6]}-{number}" for number in range(users)]
        self._visits = count()

    def visit_until(self, is_over: Callable[[Visit], bool]) -> None:
        """Let the users come and go, several at once, until `is_over` says so after somebody's visit."""
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            under_way: set[Future[Visit]] = {pool.submit(self._visit, next(self._visits)) for _ in range(IN_FLIGHT)}
            goes_on = True
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for visit in done:
                    goes_on = not is_over(visit.result()) and goes_on
                    if goes_on:
                        under_way.add(pool.submit(self._visit, next(self._visits)))

    def _visit(self, number: int) -> Visit:
        rng = np.random.default_rng([self._seed, number])
        caption, user_ref = open_caption(self._taste, rng), self.names[number % len(self.names)]
        request = {"prompt": caption.text, "model": self._model, "num_images": 2, "user_ref": user_ref}
        job = draw(self._client, request | {"seed": int(rng.integers(2**32))})
        better = self._taste.compare(*pictures_of(self._client, job))
        if better == 0:
            return Visit(job, None)
        first, second = (output["id"] for output in job["outputs"])
        chosen, rejected = (first, second) if better > 0 else (second, first)
        said = {"kind": "choice", "chosen": chosen, "rejected": rejected, "user_ref": user_ref}
        return Visit(job, self._client.say(said))


def open_caption(taste: Taste, rng: np.random.Generator) -> Caption:
    """What somebody of this taste asks for: a caption that leaves room for it."""
    silence: dict[str, Any] = {} if taste.attribute is None else {taste.attribute: None}
    return replace(draw_caption(rng), **silence)


def draw(client: Client, request: dict[str, object]) -> Job:
    """A finished generation.

    Raises:
        Refusal: it did not succeed.
    """
    return client.finish(client.generate(request, wait_seconds=_WAIT_SECONDS))


def draw_all(client: Client, requests: list[dict[str, object]]) -> Iterator[Job]:
    """Finished generations in the order of their requests, several under way at once."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        yield from pool.map(lambda request: draw(client, request), requests)


def pictures_of(client: Client, job: Job) -> list[Image.Image]:
    """The pictures of a finished generation."""
    contents = [client.download(output["url"]) for output in job["outputs"] if output["type"] == "image"]
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
