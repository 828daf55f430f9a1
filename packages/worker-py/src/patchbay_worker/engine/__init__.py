"""Runs a model and its hook jobs on one torch world, with or without Ray. Not here: queues, placement, files."""
