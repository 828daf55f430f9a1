"""A cgroup (version 2) for each job, where the machine lets the worker make one. Start at folders.py."""
