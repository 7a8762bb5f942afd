"""Job id in, artifacts out."""
