"""Both sides draw the same prompts from the same seeds, through the path that serves users."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from core.domain.errors import AdapterUnusable, InvalidInput
from core.domain.generation import GenerationDefaults, GenerationPlan, OutputFormat, ResolvedAdapter
from worker.engine.adapter_mix import Mix, mix_of
from worker.engine.adapter_reader import read_adapter
from worker.engine.batch import Batch, Seat
from worker.engine.loaded_model import LoadedModel
from worker.engine.picture import Picture
from worker.engine.room import Room
from worker.evaluation.prompt import Task

_TOGETHER = 8  # pictures


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison: an exported file, or the bare base."""

    name: str
    file: Path | None

    @property
    def adapters(self) -> tuple[ResolvedAdapter, ...]:
        """The file pinned as a request would.

        Raises:
            AdapterUnusable: the file is gone.
        """
        if self.file is None:
            return ()
        digest = _digest(self.file)
        pinned = ResolvedAdapter(
            id=self.name,
            name=self.name,
            version=1,
            sha256=digest,
            object_key="",
            weight=1.0,
            text_encoder_weight=1.0,
        )
        return (pinned,)

    @property
    def files(self) -> dict[str, Path]:
        """Where the file of each digest is."""
        return {} if self.file is None else {_digest(self.file): self.file}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One task done by both sides."""

    task: Task
    candidate: Image.Image
    champion: Image.Image


class Easel:
    """Draws tasks with one model.

    Args:
        loaded: The model, fresh.
        defaults: What a request that says nothing gets.
        should_stop: Asked at each step.
        on_picture: Told after each picture.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        defaults: GenerationDefaults,
        should_stop: Callable[[], bool],
        on_picture: Callable[[], None],
    ) -> None:
        self._loaded, self._defaults = loaded, defaults
        self._should_stop, self._on_picture = should_stop, on_picture

    def draw(self, tasks: Sequence[Task], side: Side) -> dict[Task, Image.Image]:
        """A picture for each task; tasks whose prompt cannot be encoded are left out.

        Raises:
            AdapterUnusable: the side's file is gone, or does not fit the model.
            JobFailure: what came out is no picture.
            JobStopped: asked to.
        """
        adapters, files = side.adapters, side.files
        pipeline = self._loaded.pipeline
        weights = {sha256: read_adapter(file, pipeline, sha256=sha256) for sha256, file in files.items()}
        sitting = _Sitting(self._loaded, mix_of(adapters, weights), self._should_stop, self._on_picture)
        with torch.inference_mode(), closing(sitting):
            for task in tasks:
                sitting.begin(task, self._plan(task, adapters))
            sitting.finish()
        self._loaded.forget_adapters()
        return sitting.pictures

    def _plan(self, task: Task, adapters: tuple[ResolvedAdapter, ...]) -> GenerationPlan:
        defaults = self._defaults
        return GenerationPlan(
            prompt=task.prompt,
            negative_prompt="",
            model="model",
            width=defaults.width,
            height=defaults.height,
            steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
            seed=task.seed,
            num_images=1,
            scheduler=defaults.scheduler,
            adapters=adapters,
            output_format=OutputFormat.PNG,
        )


class _Sitting:
    """Pictures of one side, a few at a time."""

    def __init__(
        self, loaded: LoadedModel, mix: Mix, should_stop: Callable[[], bool], on_picture: Callable[[], None]
    ) -> None:
        self.pictures: dict[Task, Image.Image] = {}
        self._loaded, self._mix = loaded, mix
        self._should_stop, self._on_picture = should_stop, on_picture
        self._batch = Batch(Room(most_rows=2 * _TOGETHER, device=loaded.device))

    def begin(self, task: Task, plan: GenerationPlan) -> None:
        """Take a picture in hand, as soon as there is room for it."""
        while len(self._batch) >= _TOGETHER:
            self._batch.tick()
        try:
            [paint] = self._loaded.begin(plan, mix=self._mix, init_image=None, on_step=lambda _: None)
        except InvalidInput:
            self._on_picture()
            return
        take = partial(self._take, task)
        seat = Seat(Picture(paint), "", self._loaded, wears=self._mix, should_stop=self._should_stop, on_end=take)
        self._batch.join(seat)

    def finish(self) -> None:
        """Draw what was begun."""
        while self._batch:
            self._batch.tick()

    def close(self) -> None:
        """Give up what is not drawn yet."""
        self._batch.dismiss()

    def _take(self, task: Task, picture: Picture) -> None:
        if picture.error is not None:
            raise picture.error
        self.pictures[task] = picture.result()
        self._on_picture()


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise AdapterUnusable("The adapter's file is gone.") from error
