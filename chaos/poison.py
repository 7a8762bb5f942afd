"""Prompts of pictures that a worker under test cannot survive, or cannot draw, and how the jobs of such must end."""

from core.domain.job import POISONED

SEGFAULT, HANG, HUNGER, GREED = "a segfault", "a hang", "a hunger", "a greed"
ENDS = {SEGFAULT: POISONED, HANG: POISONED, HUNGER: POISONED, GREED: "out_of_memory"}
"""The error code by prompt."""
