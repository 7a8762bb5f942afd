"""ImageEngine: plans in, images out; one thread owns the device, any number of threads may ask it."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

import torch
from PIL import Image

from core.domain.base_model import ModelFacts, ModelFamily, ModelHandle
from core.domain.errors import JobFailure, JobInterrupted, JobStopped, OutOfMemory
from core.domain.generation import GenerationPlan, OutputFormat, ResolvedAdapter
from core.domain.holding import Holding
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.adapter_cache import AdapterCache
from worker.engine.adapter_mix import is_mixable, mix_of
from worker.engine.adapter_shelf import AdapterShelf
from worker.engine.batch import Batch, Seat
from worker.engine.family_model import FamilyModel
from worker.engine.inspection import inspect_pipeline
from worker.engine.loaded_model import LoadedModel
from worker.engine.model_shelf import ModelShelf
from worker.engine.model_source import cache_of, forget_model, hold_model
from worker.engine.other_model import OtherModel
from worker.engine.picture import Picture
from worker.engine.pipeline import free_memory, is_out_of_memory, load_pipeline, pick_device
from worker.engine.request import Request, translated
from worker.engine.room import Room

T = TypeVar("T")
_MODELS_KEPT = 2
_TICK_SECONDS = 0.2
_SMALLEST_SIZE = 64  # pixels; one latent at the UNet's bottom for real models


class ImageEngine:
    """Files are fetched in the asking thread; everything that touches torch runs in the engine's own.

    Requests share the calls of the networks: at every tick all that ask the same are answered at once, and who comes
    joins at the next. Models are kept until others were used later: `_MODELS_KEPT` of them, and those at work.
    """

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings = settings
        self._store = store
        self._shelf = AdapterShelf(
            AdapterCache(settings, store),
            host_bytes=settings.host_adapter_bytes,
            device_bytes=settings.device_adapter_bytes,
        )
        self._models = ModelShelf(self._load, kept=_MODELS_KEPT)
        room = Room(most_rows=settings.batch_rows, device=pick_device(settings.device))
        self._batch = Batch(room, make_room=self._make_room)
        self._inbox: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._busy_since: float | None = None
        cache_of(settings).sweep()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def generate(
        self,
        model: ModelHandle,
        plan: GenerationPlan,
        *,
        tenant: str = "",
        init_image: Image.Image | None = None,
        on_step: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> list[Image.Image]:
        """Draw `plan.num_images` RGB images of `plan.width` by `plan.height` pixels; image i comes from seed + i.

        Blocks. `on_step(step, steps)` counts the denoising steps of all images. Tenants get the same time of the
        device. The same plan gives the same images: on a CPU bit by bit where it is drawn alone, and within the
        rounding of floating-point sums where others' images share its calls.

        Raises:
            JobStopped: `should_stop` said so, or the engine was closed before it came to this.
            ModelUnusable, AdapterUnusable, OutOfMemory, JobFailure: it cannot be done.
            InvalidInput: a prompt cannot be encoded.
            Unavailable: the object store is not reachable.
        """
        total = plan.denoising_steps * plan.num_images
        with (
            self._hold(model, at_work=lambda: on_step(0, total), should_stop=should_stop) as loaded,
            self._shelf.use(plan.adapters, model=model, pipeline=loaded.pipeline, device=loaded.device) as weights,
        ):
            request = Request(plan, mix_of(plan.adapters, weights), tenant, should_stop)
            self._ask(
                request.future,
                lambda: self._begin(request, loaded, init_image, on_step=lambda done: on_step(done, total)),
            )
            return [bring() for bring in self._await(request.future, should_stop=should_stop)]

    def inspect(
        self,
        model: ModelHandle,
        *,
        on_file: Callable[[], None],
        at_work: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool],
    ) -> ModelFacts:
        """Fetch a model, check it, load it, draw with it once, say what it is.

        `on_file` is called before each file, `at_work` while they come.

        Raises:
            JobStopped: `should_stop` said so.
            ModelUnusable, OutOfMemory, JobFailure: it cannot be used.
            Unavailable: the object store is not reachable.
        """
        try:
            with self._hold(model, on_file=on_file, at_work=at_work, should_stop=should_stop) as loaded:
                plan = _smallest_plan(model, loaded.facts)
                self.generate(model, plan, on_step=lambda _step, _steps: None, should_stop=should_stop)
                return loaded.facts
        except JobFailure:
            forget_model(model, settings=self._settings)  # nobody draws with it, and what is there may be mended
            raise

    def prefetch(self, model: ModelHandle, adapters: Sequence[ResolvedAdapter]) -> None:
        """Bring adapters near that are about to be asked for: to the device if their model is there, else to the disk.

        Raises:
            AdapterUnusable: one does not fit the model, or its file is gone.
            Unavailable: the object store is not reachable.
        """
        loaded = self._models.find(model)
        if loaded is None:
            self._shelf.fetch(adapters)
            return
        try:
            with self._shelf.use(adapters, model=model, pipeline=loaded.pipeline, device=loaded.device):
                pass
        finally:
            self._models.give_back(loaded)

    def holding(self) -> Holding:
        """What is in memory now."""
        models = {model.id: model.name for model in self._models.held()}
        return Holding(models=models, adapters=self._shelf.residency())

    def busy_seconds(self) -> float:
        """For how long the thread has been at what it does now, one load or one call; 0 where it waits."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Finish what was asked for, then let go of the models."""
        self._inbox.put(None)
        self._thread.join()

    def _ask(self, future: Future[T], begin: Callable[[], None]) -> None:
        """Let the engine's thread begin something that ends with the future."""

        def begin_if_wanted() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                begin()
            except Exception as error:  # noqa: BLE001  # it is raised again where the question came from
                future.set_exception(translated(error))
                if is_out_of_memory(error):
                    free_memory()

        self._inbox.put(begin_if_wanted)

    def _await(self, future: Future[T], *, should_stop: Callable[[], bool]) -> T:
        while not wait([future], timeout=_TICK_SECONDS).done:
            if should_stop() and future.cancel():
                raise JobStopped
            if not self._thread.is_alive() and not future.done():
                raise JobInterrupted
        return future.result()

    def _run(self) -> None:
        torch.set_num_threads(self._settings.torch_threads)  # holds for the thread that calls it
        with torch.inference_mode():
            is_open = True
            while is_open or self._batch:
                is_open = self._take_in() and is_open
                if self._batch:
                    self._do(self._batch.tick)
        self._models.clear()

    def _take_in(self) -> bool:
        """Begin what was asked for meanwhile; wait for it where there is nothing else to do. False once closed."""
        is_open = True
        while is_open:
            try:
                ask = self._inbox.get(block=not self._batch)
            except queue.Empty:
                break
            if ask is None:
                is_open = False
            else:
                self._do(ask)
        return is_open

    def _do(self, call: Callable[[], object]) -> None:
        self._busy_since = time.monotonic()
        call()
        self._busy_since = None

    def _begin(
        self, request: Request, loaded: LoadedModel, init_image: Image.Image | None, *, on_step: Callable[[int], None]
    ) -> None:
        if request.should_stop():
            raise JobStopped
        paints = loaded.begin(request.plan, mix=request.mix, init_image=init_image, on_step=on_step)
        for index, paint in enumerate(paints):
            seat = Seat(
                Picture(paint),
                request.tenant,
                loaded,
                wears=request.mix,
                should_stop=request.should_stop,
                on_end=request.taker_of(index),
                apart=None if is_mixable(request.mix) else request.mix,
                calls=request.plan.denoising_steps,
            )
            self._batch.join(seat)

    @contextmanager
    def _hold(
        self,
        model: ModelHandle,
        *,
        on_file: Callable[[], None] = lambda: None,
        at_work: Callable[[], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[LoadedModel]:
        """The model, loaded, and staying so."""
        loaded = self._models.find(model)
        if loaded is None:
            # Its files are held until they are loaded: the engine's thread must never find itself fetching them.
            with hold_model(
                model,
                settings=self._settings,
                store=self._store,
                on_file=on_file,
                at_work=at_work,
                should_stop=should_stop,
            ):
                future: Future[LoadedModel] = Future()
                self._ask(future, lambda: future.set_result(self._take(model)))
                loaded = self._await(future, should_stop=should_stop)
        try:
            yield loaded
        finally:
            self._models.give_back(loaded)

    def _take(self, model: ModelHandle) -> LoadedModel:
        try:
            return self._models.take(model)
        except OutOfMemory:
            if not self._make_room():
                raise
            return self._models.take(model)

    def _make_room(self) -> bool:
        """Let go of adapters and models that nobody uses; whether there were any."""
        any_adapter, any_model = self._shelf.free_device(), self._models.drop_unused(until=0)
        return any_adapter or any_model

    def _load(self, model: ModelHandle) -> LoadedModel:
        with hold_model(model, settings=self._settings, store=self._store) as folder:
            pipeline = load_pipeline(folder, model.options, device=self._settings.device)
            facts = inspect_pipeline(pipeline, folder)
        if facts.family is ModelFamily.OTHER:
            return OtherModel(pipeline, facts)
        return FamilyModel(pipeline, facts, model.options)


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
