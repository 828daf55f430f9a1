"""Meshes, layouts and the collectives that follow from them. Not here: hooks, editing functions, jobs."""
