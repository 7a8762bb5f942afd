"""Every query, a file per noun."""
