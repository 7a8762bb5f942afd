"""How to train the tiny model on opinions: what fits it, found by `bench.taste`. Fields of a PreferenceRecipe."""

import random
from typing import Any

from tiny.taste import TASTES
from tiny.world import full_captions, is_held_out

_KNOWN = [caption.text for caption in full_captions() if not is_held_out(caption)]

TINY_RECIPE: dict[str, Any] = {
    "rank": 8,
    "target_modules": ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"),
    "learning_rate": 2e-3,
    "steps": 70,
    "batch_size": 16,
    "gradient_accumulation": 1,
    "beta": 20.0,
    "sft_weight": 3.0,
    "anchor_weight": 0.5,
    "preserve_prompts": tuple(random.Random(0).sample(_KNOWN, 96)),
    "preserve_weight": 60.0,
    "strength": 0.45,
    "ema_decay": 0.9,
    "noise_draws": 4,
    "evaluate_every": 14,
}
"""The attention alone is too narrow for so small a model; its resnets' convolutions learn as well.

What captions say in full stays as it is, so that a taste in what they leave open does not overrule their words. With a
larger beta opinions about backgrounds, which are most of a picture, count as learned before the pictures follow.
"""

UNNAMED: dict[str, Any] = TINY_RECIPE | {
    "learning_rate": 1.5e-3,
    "steps": 100,
    "beta": 60.0,
    "anchor_weight": 0.2,
    "preserve_prompts": (),
    "strength": 0.7,
    "max_error_rise": 0.1,
    "evaluate_every": 25,
}
"""For a taste that no word names: it has to move the pictures of every prompt, beyond what users have seen yet."""

RECIPES = {name: TINY_RECIPE if taste.attribute else UNNAMED for name, taste in TASTES.items()}
"""The recipe that fits each taste."""
