"""How to train the tiny model on opinions: what fits it, found by `bench.taste`. Fields of a PreferenceRecipe."""

from typing import Any

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
