"""Scorers that are CLIP models on this machine: CLIP score, and preference models of the same layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from core.domain.evaluation import Measure
from worker.engine.pipeline import is_out_of_memory
from worker.evaluation.scorer import Scorer

_MEASURES = {
    "clip_score": Measure.FIDELITY,
    "pick_score": Measure.PREFERENCE,
    "hps_v2": Measure.PREFERENCE,
}
"""PickScore (Kirstain et al., arXiv 2305.01569) and HPS v2 (Wu et al., arXiv 2306.09341) are CLIP models that were
tuned on what people prefer; their score is the same cosine."""
_BATCH = 8


class ClipScorer:
    """The cosine between a picture and its prompt, -1 to 1.

    Args:
        name: What it is called in reports.
        folder: A CLIPModel as transformers saves one: config.json, model.safetensors, tokenizer and preprocessor.
        measures: What it was made for.
        device: Where to compute.

    Raises:
        OSError, ValueError, RuntimeError: there is no such model in the folder.
    """

    def __init__(self, name: str, folder: Path, *, measures: Measure, device: torch.device) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        model, loading = CLIPModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
        if loading["missing_keys"]:
            raise ValueError(f"it lacks {len(loading['missing_keys'])} of its weights")
        self.name, self.measures = name, measures
        self._device = device
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._processor: Any = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)

    def can_judge(self, prompt: str) -> bool:
        """Any prompt that is not empty; what is longer than its window is cut."""
        return bool(prompt.strip())

    @torch.no_grad()
    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """The cosine of each picture and its prompt."""
        found: list[float] = []
        for start in range(0, len(pictures), _BATCH):
            part = slice(start, start + _BATCH)
            pixels = self._processor([each.convert("RGB") for each in pictures[part]], return_tensors="pt")
            window = self._model.config.text_config.max_position_embeddings
            words = self._tokenizer(
                list(prompts[part]), padding=True, truncation=True, max_length=window, return_tensors="pt"
            )
            answer = self._model(
                input_ids=words.input_ids.to(self._device),
                attention_mask=words.attention_mask.to(self._device),
                pixel_values=pixels.pixel_values.to(self._device),
            )
            found += (answer.image_embeds * answer.text_embeds).sum(dim=-1).tolist()
        return found


def load_scorers(paths: Mapping[str, Path], *, device: torch.device) -> tuple[list[Scorer], list[str]]:
    """The scorers whose weights are there, and a sentence for each that could not be loaded.

    Raises:
        OutOfMemory: from torch, one does not fit on the device.
    """
    scorers: list[Scorer] = []
    notes = []
    for name, folder in sorted(paths.items()):
        if name not in _MEASURES:
            notes.append(f"The scorer {name} is not known here; {', '.join(sorted(_MEASURES))} are.")
            continue
        try:
            scorers.append(ClipScorer(name, folder, measures=_MEASURES[name], device=device))
        except Exception as error:  # a folder from outside can be wrong in any way; the report says which
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            notes.append(f"The scorer {name} could not be loaded from {folder}: {reason}")
    return scorers, notes
