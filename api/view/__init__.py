"""What answers look like, a file per noun."""
