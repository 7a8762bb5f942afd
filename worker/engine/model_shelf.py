"""Loaded models: as many as are kept, and those in use; the least lately used goes first."""

import threading
from collections import Counter
from collections.abc import Callable

from core.domain.base_model import ModelHandle
from worker.engine.loaded_model import LoadedModel
from worker.engine.pipeline import free_memory


class ModelShelf:
    """Loading is for the engine's thread only; the rest is safe to ask from any.

    Args:
        load: Brings a model onto its device; raises OutOfMemory where it does not fit beside the others.
        kept: So many stay.
    """

    def __init__(self, load: Callable[[ModelHandle], LoadedModel], *, kept: int) -> None:
        self._load, self._kept = load, kept
        self._models: dict[ModelHandle, LoadedModel] = {}
        self._in_use: Counter[LoadedModel] = Counter()
        self._lock = threading.Lock()

    def take(self, model: ModelHandle) -> LoadedModel:
        """The model, loaded now if it is not, until it is given back. Others may go for it, but none that is in use.

        Raises:
            OutOfMemory: it does not fit beside those that are kept.
            ModelUnusable, Unavailable: as loading says.
        """
        found = self.find(model)
        if found is not None:
            return found
        self.drop_unused(until=self._kept - 1)
        loaded = self._load(model)
        with self._lock:
            self._models[model] = loaded
            self._in_use[loaded] += 1
        return loaded

    def find(self, model: ModelHandle) -> LoadedModel | None:
        """The model if it is loaded, until it is given back."""
        with self._lock:
            if model not in self._models:
                return None
            loaded = self._models[model] = self._models.pop(model)  # now the last
            self._in_use[loaded] += 1
            return loaded

    def give_back(self, loaded: LoadedModel) -> None:
        """One user needs it no more."""
        with self._lock:
            self._in_use[loaded] -= 1
            self._in_use += Counter()  # forgets what nobody uses

    def held(self) -> list[ModelHandle]:
        """The models that are loaded, the least lately used first."""
        return list(self._models)  # in one go, unlike that of an OrderedDict

    def drop_unused(self, *, until: int) -> bool:
        """Let go of models that nobody uses until so many are left; whether any went."""
        with self._lock:
            unused = [handle for handle, loaded in self._models.items() if not self._in_use[loaded]]
            gone = unused[: max(0, len(self._models) - until)]
            for handle in gone:
                del self._models[handle]
        free_memory()
        return bool(gone)

    def clear(self) -> None:
        """Let go of all."""
        self._models.clear()
        free_memory()
