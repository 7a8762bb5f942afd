"""Prompts of pictures that a worker under test cannot survive."""

SEGFAULT, HANG = "a segfault", "a hang"
