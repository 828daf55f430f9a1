"""The far side of the wire: the zygote and the job processes that run user code. A worker imports none of it."""
