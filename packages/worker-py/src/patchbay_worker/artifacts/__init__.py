"""Artifacts: immutable files of results and inputs, written and carried here. Not here: what goes into them."""
