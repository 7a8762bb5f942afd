"""Does the loop let through only what is truly better? Simulated people and real trainings; see `bench.loop_safety`."""
