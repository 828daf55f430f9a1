"""A job document held against a loaded model: what each run will do, and what comes back of it."""
