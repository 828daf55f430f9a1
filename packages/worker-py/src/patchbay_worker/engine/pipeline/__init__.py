"""What pipeline stages need beside transformers' own: gradients, one sandbox for all, results in one place."""
