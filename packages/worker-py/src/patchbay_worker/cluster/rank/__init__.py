"""The rank process of a gang, around the engine. Not here: the supervisor that it answers to."""
