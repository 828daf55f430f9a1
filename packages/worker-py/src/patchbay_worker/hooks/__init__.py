"""Hook semantics on one rank: find the tensor, select, gather, edit once, scatter, save. Not here: jobs, models."""
