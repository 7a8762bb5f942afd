"""How to train the tiny model on opinions: what fits it, found by `bench.taste`. Fields of a PreferenceRecipe."""

import random
from typing import Any

from tiny.world import full_captions, is_held_out

TINY_RECIPE: dict[str, Any] = {
    "rank": 8,
    "target_modules": ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"),
    "learning_rate": 1e-3,
    "steps": 100,
    "batch_size": 16,
    "gradient_accumulation": 1,
    "beta": 300.0,
    "sft_weight": 3.0,
    "anchor_weight": 2.0,
    "ema_decay": 0.9,
    "noise_draws": 4,
    "evaluate_every": 25,
}
"""The attention alone is too narrow for so small a model; its resnets' convolutions learn as well."""

_KNOWN = [caption.text for caption in full_captions() if not is_held_out(caption)]
PRESERVING: dict[str, Any] = TINY_RECIPE | {
    "learning_rate": 2e-3,
    "steps": 120,
    "batch_size": 8,
    "anchor_weight": 0.2,
    "preserve_prompts": tuple(random.Random(0).sample(_KNOWN, 96)),
    "preserve_weight": 35.0,
}
"""For a taste in what words could settle, but no choice is about such words: prompts that name it stay as they are."""

UNNAMED: dict[str, Any] = TINY_RECIPE | {
    "learning_rate": 1.5e-3,
    "steps": 130,
    "beta": 80.0,
    "sft_weight": 10.0,
    "anchor_weight": 0.2,
    "max_error_rise": 0.05,
}
"""For a taste that no word names: it has to move the pictures of every prompt, beyond what users have seen yet."""
