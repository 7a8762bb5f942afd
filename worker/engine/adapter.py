"""LoRAs on one pipeline: a request's own, with its weights, and nothing of them left for the next."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from core.domain.errors import AdapterUnusable
from core.domain.generation import ResolvedAdapter
from worker.engine.pipeline import Pipeline, is_out_of_memory

_KEPT = 8


class AdapterRack:
    """Keeps the adapters used last loaded, and activates those of a request.

    Without adapters, images are bit-identical to those from before any was ever loaded.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._changes_text: OrderedDict[str, bool] = OrderedDict()
        self._active: tuple[tuple[str, float, float], ...] | None = ()

    def apply(self, adapters: Sequence[ResolvedAdapter], *, files: Mapping[str, Path]) -> Hashable:
        """Activate exactly these; `files` maps each digest to its file. Gives the state of the text encoders.

        Raises:
            AdapterUnusable: one of them does not fit the model.
        """
        wanted = _summed(adapters)
        if wanted != self._active:
            self._active = None
            for digest, _, _ in wanted:
                self._load(digest, files[digest])
            self._shrink({digest for digest, _, _ in wanted})
            self._activate(wanted)
            self._active = wanted
        return tuple((digest, weight) for digest, _, weight in wanted if self._changes_text[digest])

    def _load(self, digest: str, file: Path) -> None:
        if digest in self._changes_text:
            self._changes_text.move_to_end(digest)
            return
        name = _name(digest)
        try:
            self._pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True
            )
        except Exception as error:
            self._pipeline.delete_adapters(name)
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise AdapterUnusable(f"The adapter sha256:{digest} does not fit this model: {reason}") from error
        # A file of which nothing fits the model loads without an error.
        components = {part for part, names in self._pipeline.get_list_adapters().items() if name in names}
        if not components:
            raise AdapterUnusable(f"The adapter sha256:{digest} has nothing that fits this model.")
        self._changes_text[digest] = bool(components - {"unet"})

    def _shrink(self, wanted: set[str]) -> None:
        for digest in list(self._changes_text):
            if len(self._changes_text) <= _KEPT:
                return
            if digest not in wanted:
                self._pipeline.delete_adapters(_name(digest))
                del self._changes_text[digest]

    def _activate(self, wanted: tuple[tuple[str, float, float], ...]) -> None:
        if not wanted:
            self._pipeline.disable_lora()
            return
        weights = [
            {"unet": weight, "text_encoder": text_weight, "text_encoder_2": text_weight}
            for _, weight, text_weight in wanted
        ]
        parts = self._pipeline._lora_loadable_modules
        self._pipeline.enable_lora()
        self._pipeline.set_adapters(
            [_name(digest) for digest, _, _ in wanted],
            [{part: entry[part] for part in parts} for entry in weights],
        )


def _name(digest: str) -> str:
    return f"sha{digest}"


def _summed(adapters: Sequence[ResolvedAdapter]) -> tuple[tuple[str, float, float], ...]:
    """(digest, UNet weight, text encoder weight) of each file, in the request's order; named twice, weights add up."""
    sums: dict[str, tuple[float, float]] = {}
    for adapter in adapters:
        weight, text_weight = sums.get(adapter.sha256, (0.0, 0.0))
        sums[adapter.sha256] = (weight + adapter.weight, text_weight + adapter.text_encoder_weight)
    return tuple((digest, *weights) for digest, weights in sums.items())
