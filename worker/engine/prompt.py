"""Prompts → text embeddings. For UNets through compel: weights, and texts longer than the encoder's window.

For transformers as diffusers encodes them. Their T5 reads sentences, to which `(red:1.3)` is text like any other:
there is no weighting of it that anyone agrees on, and a picture is to be what diffusers alone would have made.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from compel import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode
from torch import Tensor

from core.domain.base_model import ModelFamily
from core.domain.errors import InvalidInput
from worker.engine.inspection import family_of
from worker.engine.pipeline import Pipeline
from worker.engine.weighted_text import Piece, parse_weights

MAX_DOWNWEIGHTED = 32
"""Pieces of a prompt that may weigh less than 1; each costs another pass through the text encoder."""
_KEPT = 64


@dataclass(frozen=True)
class TextEmbedding:
    """`tokens` is [1, windows * window, width]; `pooled` is [1, width], None for Stable Diffusion 1 and 2."""

    tokens: Tensor
    pooled: Tensor | None


class PromptEncoder:
    """Encodes for one pipeline, and remembers the latest embeddings."""

    def __init__(self, pipeline: Pipeline, device: torch.device) -> None:
        self._pipeline, self._device = pipeline, device
        self._family = family_of(pipeline)
        self._is_sdxl = self._family is ModelFamily.SDXL
        self._known: OrderedDict[Hashable, TextEmbedding] = OrderedDict()

    def encode(self, prompt: str, negative_prompt: str | None, *, adapters: Hashable) -> dict[str, Tensor]:
        """The arguments that replace `prompt` and `negative_prompt` in a call of the pipeline, of equal length.

        `negative_prompt` is None where there is no guidance. `adapters` names the state of the text encoders: what
        was encoded under one is never used under another.

        Raises:
            InvalidInput: too many pieces of a prompt weigh less than 1.
        """
        positive = self._embed("prompt", prompt, adapters)
        if negative_prompt is None:
            return _named(positive, prefix="")
        negative = self._embed("negative_prompt", negative_prompt, adapters)
        if not negative_prompt and self._is_sdxl and self._pipeline.config.force_zeros_for_empty_prompt:
            negative = _zeros(negative)
        if positive.tokens.shape != negative.tokens.shape:
            empty = self._embed("prompt", "", adapters).tokens
            longest = max(positive.tokens.shape[1], negative.tokens.shape[1])
            positive, negative = _padded(positive, empty, longest), _padded(negative, empty, longest)
        return _named(positive, prefix="") | _named(negative, prefix="negative_")

    def _embed(self, field: str, text: str, adapters: Hashable) -> TextEmbedding:
        key = (text, adapters)
        if key not in self._known:
            plain = {ModelFamily.SD3: self._embed_sd3, ModelFamily.FLUX: self._embed_flux}.get(self._family)
            self._known[key] = plain(text) if plain else self._embed_weighted(field, text)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def _embed_sd3(self, text: str) -> TextEmbedding:
        tokens, _, pooled, _ = self._pipeline.encode_prompt(text, None, None, do_classifier_free_guidance=False)
        return TextEmbedding(tokens, pooled)

    def _embed_flux(self, text: str) -> TextEmbedding:
        tokens, pooled, _ = self._pipeline.encode_prompt(text, None)
        return TextEmbedding(tokens, pooled)

    def _embed_weighted(self, field: str, text: str) -> TextEmbedding:
        pieces = parse_weights(text)
        if sum(piece.weight < 1 for piece in pieces) > MAX_DOWNWEIGHTED:
            raise InvalidInput.of(field, f"at most {MAX_DOWNWEIGHTED} pieces of it may weigh less than 1")
        return self._embed_sdxl(pieces) if self._is_sdxl else self._embed_sd(pieces)

    def _embed_sd(self, pieces: list[Piece]) -> TextEmbedding:
        provider = self._provider("", ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED)
        return TextEmbedding(_weighted(provider, pieces), None)

    def _embed_sdxl(self, pieces: list[Piece]) -> TextEmbedding:
        kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        first, second = self._provider("", kind), self._provider("_2", kind)
        tokens = torch.cat([_weighted(first, pieces), _weighted(second, pieces)], dim=-1)
        return TextEmbedding(tokens, self._pooled("".join(piece.text for piece in pieces)))

    def _pooled(self, text: str) -> Tensor:
        tokenizer, encoder = self._pipeline.tokenizer_2, self._pipeline.text_encoder_2
        ids = tokenizer(
            text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        pooled: Tensor = encoder(ids.to(self._device)).text_embeds
        return pooled

    def _provider(self, suffix: str, kind: ReturnedEmbeddingsType) -> Any:
        # A new one each time: it keeps the empty prompt's embedding, which is wrong as soon as adapters change.
        return EmbeddingsProvider(
            tokenizer=getattr(self._pipeline, f"tokenizer{suffix}"),
            text_encoder=getattr(self._pipeline, f"text_encoder{suffix}"),
            truncate=False,
            returned_embeddings_type=kind,
            device=self._device,
            split_long_text_mode=SplitLongTextMode.PHRASES,
        )


def _weighted(provider: Any, pieces: list[Piece]) -> Tensor:
    texts, weights = [piece.text for piece in pieces], [piece.weight for piece in pieces]
    if min(weights, default=1.0) >= 1:
        return _stressed(provider, texts, weights)
    try:
        embeddings: Tensor = provider.get_embeddings_for_weighted_prompt_fragments(
            text_batch=[texts], fragment_weights_batch=[weights], device=provider.device
        )
    except (RuntimeError, IndexError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        # compel does not find a piece again among the tokens, for instance where it spells an end-of-text marker.
        return _stressed(provider, ["".join(texts)], [1.0])
    return embeddings


def _stressed(provider: Any, texts: list[str], weights: list[float]) -> Tensor:
    """Without pieces that weigh less than 1 there is nothing to find again; exactly diffusers' own if all weigh 1."""
    ids, token_weights, _ = provider.get_token_ids_and_expand_weights(texts, weights, device=provider.device)
    embeddings: Tensor = provider.build_weighted_embedding_tensor(ids, token_weights, device=provider.device)
    return embeddings.to(provider.text_encoder.dtype)


def _padded(embedding: TextEmbedding, empty: Tensor, length: int) -> TextEmbedding:
    missing = (length - embedding.tokens.shape[1]) // empty.shape[1]
    return TextEmbedding(torch.cat([embedding.tokens, *[empty] * missing], dim=1), embedding.pooled)


def _zeros(embedding: TextEmbedding) -> TextEmbedding:
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return TextEmbedding(torch.zeros_like(embedding.tokens), pooled)


def _named(embedding: TextEmbedding, *, prefix: str) -> dict[str, Tensor]:
    named = {f"{prefix}prompt_embeds": embedding.tokens}
    return named if embedding.pooled is None else named | {f"{prefix}pooled_prompt_embeds": embedding.pooled}
