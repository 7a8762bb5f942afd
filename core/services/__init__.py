"""The verbs: one function is one use case in one transaction."""
