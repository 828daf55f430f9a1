"""What keeps user code in its process: namespaces, root tree, Landlock, seccomp, privileges, limits. Start at plan.py.

`zygote_part.py` is done once by the zygote, `job_part.py` by every job before it reads a byte of a user's source.
"""
