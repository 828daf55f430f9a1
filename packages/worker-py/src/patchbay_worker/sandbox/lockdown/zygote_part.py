"""What the zygote does to itself after its imports, once: namespaces, root tree, another uid, the rules for its jobs.

Everything that can fail for a whole machine fails here, with the layer's name, before any job exists. Not here: what
each job still does (job_part.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from patchbay_worker.sandbox.linux import die_with_parent
from patchbay_worker.sandbox.lockdown import kernel, landlock
from patchbay_worker.sandbox.lockdown.import_roots import aliases, import_roots
from patchbay_worker.sandbox.lockdown.job_part import JobLockDown
from patchbay_worker.sandbox.lockdown.namespaces import PER_JOB, enter_outer
from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Plan
from patchbay_worker.sandbox.lockdown.privileges import become, unprivileged_uid
from patchbay_worker.sandbox.lockdown.root_tree import enter_root_tree
from patchbay_worker.sandbox.lockdown.seccomp import Filter


class ZygoteLockDown:
    """`enter` once, then `fork` per job."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._job: JobLockDown | None = None

    def enter(self, worker_pid: int, ask_for_map: Callable[[], None]) -> None:
        """Raises LayerFailed; the process is then of no use."""
        plan = self._plan
        roots = import_roots()
        uid = unprivileged_uid(worker_pid) if plan.has("uid") and os.getuid() == 0 else None
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        rules = Filter(plan) if plan.has("seccomp") else None
        if plan.has("namespaces"):
            enter_outer(ask_for_map)
            die_with_parent(worker_pid, signal.SIGKILL)
        if plan.has("root"):
            _enter_tree([*roots, *aliases(roots)])
        readable = _landlock(roots) if plan.has("landlock") else None
        if uid is not None:
            become(uid)
            die_with_parent(worker_pid, signal.SIGKILL)  # forgotten with the change of uid
        if plan.level != "trusted":
            kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 0)
        myself = os.pidfd_open(os.getpid())
        self._job = JobLockDown(plan, proc, myself, readable, rules)

    @property
    def job(self) -> JobLockDown:
        assert self._job is not None, "the zygote enters its lock-down before it forks"
        return self._job

    def fork(self) -> int:
        """As os.fork(), into namespaces of the job's own where the level has them."""
        return kernel.clone(PER_JOB) if self._plan.has("namespaces") else os.fork()


def _enter_tree(roots: list[str]) -> None:
    try:
        enter_root_tree(roots)
    except OSError as problem:
        raise LayerFailed("root", str(problem)) from problem


def _landlock(roots: list[str]) -> int:
    version = landlock.abi()
    if version < 1:
        raise LayerFailed("landlock", "this kernel has no Landlock, or it is not switched on")
    folders = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for root in roots]
    made = landlock.ruleset(folders, version)
    for folder in folders:
        os.close(folder)
    return made
