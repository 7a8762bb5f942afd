"""A LoRA file from outside: checked against its base model, and written anew in one form.

What comes in may be named as diffusers, PEFT or kohya do. What is kept is named as diffusers does, with nothing of
the original's free text: diffusers would build its configuration from that.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import IO, Any

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput
from core.domain.lora_key import LoraForm, LoraRole, aliases, is_of_denoiser, other_method, read_key
from core.infra import safetensors_file
from core.infra.safetensors_file import SafetensorsHeader, Tensor

MAX_RANK = 256
_NAMED = 3
"""Names shown of many that are wrong."""


@dataclass
class Pair:
    """The two matrices of one module, and its alpha."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        assert self.down is not None
        return self.down.shape[0]


@dataclass(frozen=True)
class CheckedAdapter:
    """A LoRA that fits its base model. `rank` is its highest, `alpha` its most frequent; `pairs` is by module."""

    form: LoraForm
    pairs: Mapping[str, Pair] = field(repr=False)

    @property
    def rank(self) -> int:
        return max(pair.rank for pair in self.pairs.values())

    @property
    def alpha(self) -> float:
        return Counter(self.alpha_of(module) for module in self.pairs).most_common(1)[0][0]

    @property
    def trains_text_encoder(self) -> bool:
        return not all(is_of_denoiser(module) for module in self.pairs)

    def alpha_of(self, module: str) -> float:
        """A file that says nothing means alpha = rank: the weights as they are."""
        pair = self.pairs[module]
        return float(pair.rank) if pair.alpha is None else pair.alpha


def check_adapter(
    file: IO[bytes], *, modules: Mapping[str, Sequence[int]], family: ModelFamily, alpha: float | None = None
) -> CheckedAdapter:
    """Read a LoRA file and match it to the base model's modules (name → shape of the weight).

    `alpha` is for files that do not tell theirs, such as PEFT's.

    Raises:
        InvalidInput: not safetensors, not a LoRA, not for this model, or with numbers that are none; the field is
            `file`.
    """
    header = safetensors_file.read_header(file)
    form, layers = _match(file, header, aliases(modules, family=family))
    pairs = _split(layers, modules)
    for module, pair in pairs.items():
        if reason := _misfit(pair, modules[module]):
            raise _refused(f"does not fit the base model: {module} {reason}")
    for tensor in header.tensors:
        if not safetensors_file.is_finite(file, tensor):
            raise _refused(f"holds infinite numbers, or none at all, in {tensor.name[:200]}")
    for module, told in _told_alphas(header.metadata, pairs, alpha):
        pairs[module].alpha = told
    return CheckedAdapter(form, pairs)


def _match(
    file: IO[bytes], header: SafetensorsHeader, known: Mapping[str, tuple[str, ...]]
) -> tuple[LoraForm, dict[tuple[str, ...], Pair]]:
    pairs: dict[tuple[str, ...], Pair] = {}
    forms: set[LoraForm] = set()
    unread: list[str] = []
    strangers: list[str] = []
    for tensor in header.tensors:
        key = read_key(tensor.name)
        if key is None:
            unread.append(tensor.name)
        elif key.alias not in known:
            strangers.append(tensor.name)
        else:
            forms.add(key.form)
            pair = pairs.setdefault(known[key.alias], Pair())
            if getattr(pair, key.role) is not None:
                raise _refused(f"holds two tensors for the {key.role} of {' and '.join(known[key.alias])}")
            is_alpha = key.role is LoraRole.ALPHA
            setattr(pair, key.role, safetensors_file.read_scalar(file, tensor) if is_alpha else tensor)
    if unread:
        raise _refused(_unread(unread))
    if strangers:
        raise _refused(f"changes {len(strangers)} tensors that this base model lacks: {_some(strangers)}")
    if len(forms) > 1:
        raise _refused("mixes several ways of naming its tensors")
    return forms.pop(), pairs


def _split(layers: Mapping[tuple[str, ...], Pair], modules: Mapping[str, Sequence[int]]) -> dict[str, Pair]:
    """By module. Of a layer that is several, each takes the whole of `down`, and of `up` the rows of its outputs."""
    pairs: dict[str, Pair] = {}
    for parts, pair in layers.items():
        for module, part in zip(parts, _parts(pair, [modules[module][0] for module in parts]), strict=True):
            if pairs.setdefault(module, part) is not part:
                raise _refused(f"changes {module} twice, under two names")
    return pairs


def _parts(pair: Pair, outputs: Sequence[int]) -> list[Pair]:
    up = pair.up
    if len(outputs) == 1 or up is None or not up.shape:
        return [pair] * len(outputs)
    if up.shape[0] != sum(outputs):
        raise _refused(f"does not fit the base model: {up.name[:200]} needs {sum(outputs)} rows, it has {up.shape[0]}")
    row = (up.end - up.start) // up.shape[0]
    ends = list(accumulate(outputs))
    return [
        replace(
            pair,
            up=replace(up, shape=(rows, *up.shape[1:]), start=up.start + (end - rows) * row, end=up.start + end * row),
        )
        for rows, end in zip(outputs, ends, strict=True)
    ]


def _unread(names: list[str]) -> str:
    if method := other_method(names):
        return f"is {method}, not a plain LoRA"
    return f"is not a LoRA for Stable Diffusion: it holds {_some(names)}"


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _misfit(pair: Pair, weight: Sequence[int]) -> str | None:
    if pair.down is None or pair.up is None:
        return "has only one of its two matrices"
    outputs, inputs, *kernel = weight
    rank = pair.down.shape[0] if pair.down.shape else 0
    if not 1 <= rank <= MAX_RANK:
        return f"has rank {rank}; 1 to {MAX_RANK} are possible"
    down, up = (rank, inputs, *kernel), (outputs, rank, *[1 for _ in kernel])
    for tensor, shape in ((pair.down, down), (pair.up, up)):
        if tensor.shape != shape:
            return f"needs shape {list(shape)}, the file has {list(tensor.shape)[:8]}"
    if pair.alpha is not None and not 0 < pair.alpha < 1e6:
        return "has an alpha that is not a positive number"
    return None


def _told_alphas(
    metadata: Mapping[str, str], pairs: Mapping[str, Pair], alpha: float | None
) -> Iterator[tuple[str, float]]:
    """The alpha of each module that has no tensor for it: as the file's text says, else as the caller does."""
    config = _configuration(metadata)
    for module, pair in pairs.items():
        if pair.alpha is not None:
            continue
        part, path = module.split(".", 1)
        if config.get(f"{part}.use_dora"):
            raise _refused("is DoRA, not a plain LoRA")
        told = _patterned(config.get(f"{part}.alpha_pattern"), path) or config.get(f"{part}.lora_alpha") or alpha
        if isinstance(told, int | float) and 0 < told < 1e6:
            root = pair.rank**0.5 if config.get(f"{part}.use_rslora") else 1.0
            yield module, float(told) * root


def _configuration(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _patterned(pattern: Any, path: str) -> Any:
    return pattern.get(path, pattern.get(f"^{path}")) if isinstance(pattern, dict) else None


def write_adapter(source: IO[bytes], target: IO[bytes], adapter: CheckedAdapter) -> tuple[str, int]:
    """Write the LoRA in diffusers' form: (sha256 of the file, its bytes)."""
    tensors: dict[str, Tensor] = {}
    for module, pair in sorted(adapter.pairs.items()):
        assert pair.down is not None
        assert pair.up is not None
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = pair.down, pair.up
    config = json.dumps(_config(adapter), sort_keys=True)
    safetensors_file.write(source, target, tensors=tensors, metadata={"format": "pt", "lora_adapter_metadata": config})
    digest = hashlib.sha256()
    target.seek(0)
    while chunk := target.read(2**20):
        digest.update(chunk)
    return digest.hexdigest(), target.tell()


def write_as_named(source: IO[bytes], target: IO[bytes]) -> None:
    """Write a LoRA that was checked by the names that it came with, and nothing that came beside its tensors."""
    tensors = {tensor.name: tensor for tensor in safetensors_file.read_header(source).tensors}
    safetensors_file.write(source, target, tensors=tensors, metadata={"format": "pt"})


def _config(adapter: CheckedAdapter) -> dict[str, Any]:
    """What diffusers hands to peft's `LoraConfig`, under each part's name."""
    config: dict[str, Any] = {}
    for module, pair in adapter.pairs.items():
        part, path = module.split(".", 1)
        config.setdefault(f"{part}.r", adapter.rank)
        config.setdefault(f"{part}.lora_alpha", adapter.alpha)
        config.setdefault(f"{part}.target_modules", []).append(path)
        ranks = config.setdefault(f"{part}.rank_pattern", {})
        alphas = config.setdefault(f"{part}.alpha_pattern", {})
        # Anchored as diffusers does it: a plain name would also match where another module's name ends in it.
        if pair.rank != adapter.rank:
            ranks[f"^{path}"] = pair.rank
        if adapter.alpha_of(module) != adapter.alpha:
            alphas[f"^{path}"] = adapter.alpha_of(module)
    return config


def _refused(reason: str) -> InvalidInput:
    return InvalidInput.of("file", reason)
