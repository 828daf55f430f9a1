"""Which level a machine reaches: tried from the strongest down, each held to real attacks. Start at choose.py."""
