"""What breaks on purpose, and what must be true afterwards."""
