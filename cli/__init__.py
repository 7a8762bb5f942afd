"""The `lorikeet` command: starts the system, talks to it, and administers it."""
