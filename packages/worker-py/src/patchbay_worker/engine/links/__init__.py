"""Connections between ranks beside the torch world. Not here: those of stages (engine/pipeline)."""
