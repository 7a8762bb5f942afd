"""What the API and the workers both stand on; has no process of its own."""
