"""Graph edits: an editing function as a list of torch's operations, computed by the ranks. Not here: when and where."""
