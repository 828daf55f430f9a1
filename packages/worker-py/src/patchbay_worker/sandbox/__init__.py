"""Runs a user's editing functions in a separate process. Start at pool.py and client.py.

Nothing here knows models, hooks, ranks or jobs' documents. `job/` is what runs on the far side of the wire.
"""
