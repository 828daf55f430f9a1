"""The Ray shell around the engine: one supervisor per gang, one rank actor per shard, frames between them.
Not here: what a job does on a rank (engine/).
"""
