"""Who wears what: the adapters of one row, each with its weights."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from core.domain.generation import ResolvedAdapter
from core.domain.lora_key import is_of_denoiser
from worker.engine.adapter_change import Change, scales
from worker.engine.adapter_weights import AdapterWeights


@dataclass(frozen=True)
class Portion:
    """An adapter with the weights it is worn with, in the denoiser and in the text encoders."""

    weights: AdapterWeights
    weight: float
    text_weight: float

    def strength(self, name: str) -> float:
        """The weight it is worn with in the component that a module belongs to."""
        return self.weight if is_of_denoiser(name) else self.text_weight

    def change(self, name: str) -> tuple[Change, float] | None:
        """What it does to a module, and how much of it; None where it does nothing."""
        change = self.weights.layers.get(name) or self.weights.dense.get(name)
        strength = self.strength(name)
        if change is None or (strength == 0 and not scales(change)):
            return None
        return change, strength


Mix: TypeAlias = tuple[Portion, ...]
"""What one row wears; () is the bare base."""


def mix_of(adapters: Sequence[ResolvedAdapter], weights: Mapping[str, AdapterWeights]) -> Mix:
    """The mix that a request asks for, `weights` by digest. Of an adapter named twice the weights add up."""
    mix: dict[str, Portion] = {}
    for adapter in adapters:
        known = mix.get(adapter.sha256, Portion(weights[adapter.sha256], 0.0, 0.0))
        mix[adapter.sha256] = Portion(
            known.weights, known.weight + adapter.weight, known.text_weight + adapter.text_encoder_weight
        )
    return tuple(mix.values())


def text_state(mix: Mix) -> Hashable:
    """What prompts' embeddings depend on: equal for mixes under which the text encoders say the same."""
    return tuple((portion.weights, portion.text_weight) for portion in mix if portion.weights.changes_text)


def is_mixable(mix: Mix) -> bool:
    """Whether rows that wear something else may be in the same batch."""
    return all(portion.weights.is_mixable for portion in mix)
