"""HTTP in, JSON out; no rules, no SQL, no torch."""
