"""How and where a stage runs, and whether its input is intact. No result depends on it, so no stage lists it."""
