"""Passes through the model on all ranks: the forward, the generation, the parameters."""
