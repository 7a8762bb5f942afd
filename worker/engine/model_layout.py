"""Is a folder a text-to-image model in the diffusers layout, with safe weights only?"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from core.domain.errors import ModelUnusable

INDEX = "model_index.json"
DEFAULTS = "lorikeet.json"
"""Optional: what the model's maker recommends, as the JSON of a GenerationDefaults, any part of it."""

_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}
_CLIP, _CLIP_PROJECTED, _T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
_PARTS: dict[str, dict[str, str]] = {
    "StableDiffusionPipeline": {"unet": "UNet2DConditionModel", "text_encoder": _CLIP},
    "StableDiffusionXLPipeline": {
        "unet": "UNet2DConditionModel",
        "text_encoder": _CLIP,
        "text_encoder_2": _CLIP_PROJECTED,
    },
    "StableDiffusion3Pipeline": {
        "transformer": "SD3Transformer2DModel",
        "text_encoder": _CLIP_PROJECTED,
        "text_encoder_2": _CLIP_PROJECTED,
        "text_encoder_3": _T5,
    },
    "FluxPipeline": {"transformer": "FluxTransformer2DModel", "text_encoder": _CLIP, "text_encoder_2": _T5},
}
"""The pipelines of the families, and what those of their parts have to be that have weights; all have a `vae` too."""
_MAY_LACK = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
_MOST_INDEX_BYTES = 2**20
_SUFFIXES = (".safetensors", ".json", ".txt")
_PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"}
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class ModelLayout:
    """What `model_index.json` says, with text to image in place of image to image.

    `components` have weights: name → library and class; `folders` are all that is needed; `absent` are parts that
    the pipeline may have and this model has not.
    """

    pipeline: str
    components: dict[str, tuple[str, str]]
    folders: tuple[str, ...]
    absent: tuple[str, ...] = ()

    @property
    def is_of_family(self) -> bool:
        """Whether it is a pipeline whose pictures share calls; any other draws alone."""
        return self.pipeline in _PARTS


def read_index(content: bytes) -> ModelLayout:
    """Read a `model_index.json`.

    Raises:
        ModelUnusable: it is not that of a text-to-image pipeline of diffusers, made of parts that are safe to load.
    """
    index = _parse(content, INDEX)
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise ModelUnusable(f"{INDEX} names the pipeline {name}, which is none of diffusers' own.")
    family = name.replace("Img2ImgPipeline", "Pipeline")
    return _of_family(family, index) if family in _PARTS else _of_another(name, index)


def _parse(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelUnusable(f"{name} is not JSON: {error}") from error


def _of_family(name: str, index: dict[str, Any]) -> ModelLayout:
    wanted = _PARTS[name] | {"vae": "AutoencoderKL"}
    tokenizers = [part.replace("text_encoder", "tokenizer") for part in wanted if part.startswith("text_encoder")]
    absent = tuple(part for part in _MAY_LACK.get(name, ()) if _entry(index, part) == (None, None))
    components = {part: _known(index, part, kind) for part, kind in wanted.items() if part not in absent}
    others = (*(part for part in tokenizers if part not in absent), "scheduler")
    for part in others:
        if issubclass(_class_of(index, part), torch.nn.Module):
            raise ModelUnusable(f"{INDEX} names {index.get(part)} as its {part}, which should have no weights.")
    return ModelLayout(name, components, (*components, *others), absent)


def _known(index: dict[str, Any], part: str, kind: str) -> tuple[str, str]:
    entry = _entry(index, part)
    if entry is None or entry[1] != kind:
        raise ModelUnusable(f"{INDEX} names {index.get(part)} as its {part}; {kind} is supported.")
    return "transformers" if part.startswith("text_encoder") else "diffusers", kind


def _of_another(name: str, index: dict[str, Any]) -> ModelLayout:
    # Reads every pipeline of diffusers, which takes seconds.
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    pipeline = {kind.__name__: kind for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}.get(name)
    if pipeline is None:
        raise ModelUnusable(f"{INDEX} names the pipeline {name}, which is no text-to-image pipeline of diffusers.")
    # Only what the pipeline takes: the names of parts are folders, and anything may be written there.
    parts = {part: entry for part in signature(pipeline).parameters if (entry := _entry(index, part)) is not None}
    present = {part: entry for part, entry in parts.items() if entry != (None, None)}
    components = {part: entry for part, entry in present.items() if issubclass(_class_of(index, part), torch.nn.Module)}
    return ModelLayout(name, components, tuple(present), tuple(part for part in parts if part not in present))


def _class_of(index: dict[str, Any], part: str) -> type:
    library, kind = _entry(index, part) or (None, None)
    found = getattr(_LIBRARIES.get(library), str(kind), None) if library else None
    if not isinstance(found, type):
        raise ModelUnusable(f"{INDEX} names {index.get(part)} as its {part}; diffusers and transformers lack that.")
    return found


def _entry(index: dict[str, Any], part: str) -> tuple[Any, Any] | None:
    """The library and the class of a part, both None where the model has no such part."""
    entry = index.get(part)
    if isinstance(entry, list) and len(entry) == 2 and (entry == [None, None] or all(map(_is_text, entry))):
        return (entry[0], entry[1])
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def check_index_size(size: int) -> None:
    """See whether a `model_index.json` of so many bytes can be one, before it is fetched.

    Raises:
        ModelUnusable: it cannot.
    """
    if size > _MOST_INDEX_BYTES:
        raise ModelUnusable(f"{INDEX} has {size} bytes; {_MOST_INDEX_BYTES} are more than enough.")


def is_wanted(name: str, folders: Iterable[str]) -> bool:
    """Whether a file is part of the model: beside `model_index.json`, or in a folder that it names."""
    folder, slash, file = name.rpartition("/")
    if not slash:
        return Path(file).suffix == ".json"
    return folder in folders and Path(file).suffix in _SUFFIXES and file != _ADAPTER


def refuse_pickles(names: Iterable[str]) -> None:
    """Refuse files that run code when they are read.

    Raises:
        ModelUnusable: one of `names` is such a file.
    """
    for name in sorted(names):
        if Path(name).suffix.lower() in _PICKLES:
            raise ModelUnusable(
                f"{name} may run code when it is read; only .safetensors weights are accepted. Convert it or remove it."
            )


def _refuse_signposts(folder: Path, names: Iterable[str]) -> None:
    """Refuse files by which the libraries would read weights that are pickles, or another model's.

    Raises:
        ModelUnusable: one of `names` is such a file.
    """
    for name in sorted(names):
        file = Path(name).name
        if file == _ADAPTER:
            raise ModelUnusable(f"{name} would lead to another model. Merge the adapter, or upload it on its own.")
        if ".index." in file and file.endswith(".json"):  # model.safetensors.index.json, with a variant or not
            _check_shards(name, _parse((folder / name).read_bytes(), name))


def _check_shards(name: str, index: Any) -> None:
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise ModelUnusable(f"{name} has no weight_map.")
    for shard in shards.values():
        # A list of pickles may have been left beside safe weights: it leads nowhere, for the pickles are refused.
        if not isinstance(shard, str) or "/" in shard or Path(shard).suffix not in {".safetensors", *_PICKLES}:
            raise ModelUnusable(f"{name} names {shard!r}; weights are .safetensors files beside it.")


def check_layout(folder: Path) -> ModelLayout:
    """See whether everything is there, without loading anything.

    Raises:
        ModelUnusable: not a model in the diffusers layout; the message names what is wrong.
    """
    index = folder / INDEX
    if not index.is_file():
        raise ModelUnusable(f"{folder} has no {INDEX}; a model is a folder in the diffusers layout.")
    layout = read_index(index.read_bytes())
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    refuse_pickles(names)
    _refuse_signposts(folder, names)
    for name in layout.folders:
        if not (folder / name).is_dir():
            raise ModelUnusable(f"The model has no folder {name}.")
    for name in layout.components:
        if not any((folder / name).glob("*.safetensors")):
            raise ModelUnusable(f"The model's {name} has no .safetensors weights.")
    return layout


def variant_of(folder: Path, component: str) -> str | None:
    """`fp16` where a component's weights are stored under that name only, else None."""
    names = [path.name for path in (folder / component).glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None
