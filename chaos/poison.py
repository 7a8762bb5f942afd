"""Prompts of pictures that a worker under test cannot survive, and how the jobs of such must end."""

SEGFAULT, HANG = "a segfault", "a hang"
ENDS = {SEGFAULT: "poisoned", HANG: "poisoned"}
"""The error code by prompt."""
