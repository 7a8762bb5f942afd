"""ImageEngine: plans in, images out; one thread owns the device, any number of threads may ask it."""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import torch
from PIL import Image

from core.domain.base_model import ModelFacts, ModelHandle
from core.domain.errors import JobFailure, JobInterrupted, JobStopped, OutOfMemory
from core.domain.generation import GenerationPlan, OutputFormat
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.adapter_cache import AdapterCache
from worker.engine.loaded_model import LoadedModel
from worker.engine.model_source import fetch_model
from worker.engine.pipeline import free_memory, is_out_of_memory, load_pipeline

T = TypeVar("T")
_MODELS_KEPT = 2
_TICK_SECONDS = 0.2
_SMALLEST_SIZE = 64  # pixels; one latent at the UNet's bottom for real models


class ImageEngine:
    """Files are fetched in the asking thread; everything that touches torch runs in the engine's own, in order.

    Models are kept until others were used later: `_MODELS_KEPT` of them.
    """

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings = settings
        self._store = store
        self._adapter_cache = AdapterCache(settings, store)
        self._models: OrderedDict[ModelHandle, LoadedModel] = OrderedDict()
        self._inbox: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def generate(
        self,
        model: ModelHandle,
        plan: GenerationPlan,
        *,
        init_image: Image.Image | None = None,
        on_step: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> list[Image.Image]:
        """Draw `plan.num_images` RGB images of `plan.width` by `plan.height` pixels; image i comes from seed + i.

        Blocks. `on_step(step, steps)` counts the denoising steps of all images. The same plan gives the same
        images, bit by bit on a CPU, whatever was drawn before.

        Raises:
            JobStopped: `should_stop` said so, or the engine was closed before it came to this.
            ModelUnusable, AdapterUnusable, OutOfMemory, JobFailure: it cannot be done.
            InvalidInput: a prompt cannot be encoded.
            Unavailable: the object store is not reachable.
        """
        total = plan.denoising_steps * plan.num_images

        def on_file() -> None:
            on_step(0, total)
            if should_stop():
                raise JobStopped

        fetch_model(model, settings=self._settings, store=self._store, on_file=on_file)
        files = {
            adapter.sha256: self._adapter_cache.fetch(sha256=adapter.sha256, object_key=adapter.object_key)
            for adapter in plan.adapters
        }
        return self._ask(
            lambda: self._model(model).draw(
                plan, adapter_files=files, init_image=init_image, on_step=on_step, should_stop=should_stop
            ),
            should_stop=should_stop,
        )

    def inspect(
        self, model: ModelHandle, *, on_file: Callable[[], None], should_stop: Callable[[], bool]
    ) -> ModelFacts:
        """Fetch a model, check it, load it, draw with it once, and say what it is. `on_file` is called between files.

        Raises:
            JobStopped: `should_stop` said so.
            ModelUnusable, OutOfMemory, JobFailure: it cannot be used.
            Unavailable: the object store is not reachable.
        """
        fetch_model(model, settings=self._settings, store=self._store, on_file=on_file)
        return self._ask(lambda: self._try_out(model), should_stop=should_stop)

    def close(self) -> None:
        """Finish what was asked for, then let go of the models."""
        self._inbox.put(None)
        self._thread.join()

    def _ask(self, work: Callable[[], T], *, should_stop: Callable[[], bool]) -> T:
        future: Future[T] = Future()
        self._inbox.put(lambda: _settle(future, work))
        while not wait([future], timeout=_TICK_SECONDS).done:
            if should_stop() and future.cancel():
                raise JobStopped
            if not self._thread.is_alive() and not future.done():
                raise JobInterrupted
        return future.result()

    def _run(self) -> None:
        torch.set_num_threads(self._settings.torch_threads)  # holds for the thread that calls it
        while (ask := self._inbox.get()) is not None:
            ask()
        self._models.clear()
        free_memory()

    def _try_out(self, model: ModelHandle) -> ModelFacts:
        loaded = self._model(model)
        loaded.draw(
            _smallest_plan(model, loaded.facts),
            adapter_files={},
            init_image=None,
            on_step=lambda _step, _steps: None,
            should_stop=lambda: False,
        )
        return loaded.facts

    def _model(self, model: ModelHandle) -> LoadedModel:
        if model not in self._models:
            while len(self._models) >= _MODELS_KEPT:
                self._models.popitem(last=False)
            free_memory()
            try:
                self._models[model] = self._load(model)
            except OutOfMemory:
                if not self._models:
                    raise
                self._models.clear()
                free_memory()
                self._models[model] = self._load(model)
        self._models.move_to_end(model)
        return self._models[model]

    def _load(self, model: ModelHandle) -> LoadedModel:
        folder = fetch_model(model, settings=self._settings, store=self._store)
        return LoadedModel(load_pipeline(folder, model.options, device=self._settings.device), folder)


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    """Give the asking thread its answer or its error; the engine's thread outlives both."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001  # it is raised again where the question came from
        future.set_exception(_translated(error))
        if is_out_of_memory(error):
            free_memory()


def _translated(error: Exception) -> Exception:
    if is_out_of_memory(error) and not isinstance(error, JobFailure):
        return OutOfMemory("The device has not enough memory for this request; ask for a smaller image.")
    return error


def _smallest_plan(model: ModelHandle, facts: ModelFacts) -> GenerationPlan:
    return GenerationPlan(
        prompt="",
        negative_prompt="",
        model=model.name,
        width=_SMALLEST_SIZE,
        height=_SMALLEST_SIZE,
        steps=1,
        guidance_scale=facts.defaults.guidance_scale,
        seed=0,
        num_images=1,
        scheduler=facts.defaults.scheduler,
        output_format=OutputFormat.PNG,
    )
