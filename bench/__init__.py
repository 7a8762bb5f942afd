"""What we claim, measured; one command per claim."""
