"""What a job process does to itself before it reads anything of a user, in order. Any failure ends the process.

`begin` and `enter` run while the process waits in the pool; `finish` when the job's limits have come. After `finish`
only user code and the wire are left. Not here: what the zygote has done before (zygote_part.py).
"""

from __future__ import annotations

import os
import resource
import select
import signal
from contextlib import suppress
from typing import Final

from patchbay_worker.sandbox.linux import die_with_parent
from patchbay_worker.sandbox.lockdown import kernel, landlock
from patchbay_worker.sandbox.lockdown.namespaces import map_own_id, write_at
from patchbay_worker.sandbox.lockdown.plan import Plan
from patchbay_worker.sandbox.lockdown.privileges import drop_capabilities, no_new_privileges
from patchbay_worker.sandbox.lockdown.seccomp import Filter

OPEN_FILES: Final = 32
THREADS: Final = 16
"""With the job's own and that of its init, counted per user namespace."""
PENDING_SIGNALS: Final = 64
CPU_GRACE_S: Final = 5
NICE: Final = 19
AUTOGROUP_NICE: Final = 7
"""As one group against the worker: however many threads are busy, the worker keeps five sixths of a core."""
SOCKET_FD: Final = 3
PROC_FD: Final = 4
RULES_FD: Final = 5
"""Where a job holds /proc and its Landlock rules until it is locked; 0 to 3 stay its own."""


class JobLockDown:
    """Made by the zygote; every job works on its own copy."""

    def __init__(self, plan: Plan, proc: int, zygote: int, readable: int | None, rules: Filter | None) -> None:
        self.plan = plan
        self.proc = proc
        self.readable = readable
        self._zygote = zygote
        self._filter = rules
        self._ids = (os.getuid(), os.getgid())

    def begin(self) -> None:
        """In the process that the zygote has just made: bound to its life, with its own id in its own namespace."""
        kernel.prctl("parent-death signal", 1, signal.SIGKILL)
        if _ended(self._zygote):
            os._exit(1)
        if self.plan.has("namespaces"):
            map_own_id(self.proc, *self._ids)

    def lock_init(self) -> None:
        """For the first process of a job's namespace, which only waits for the job."""
        drop_capabilities()
        no_new_privileges()
        kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 0)

    def enter(self, parent: int) -> None:
        """Everything but the filter and the limits that depend on the job."""
        plan = self.plan
        die_with_parent(parent, signal.SIGKILL)
        os.setsid()  # kill(0) must not reach the zygote
        if plan.level != "trusted":
            kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)  # else its own files in /proc are not its own
        with suppress(OSError):
            # When memory runs out, this process is the one to go, not a rank with a shard of the model.
            write_at(self.proc, "self/oom_score_adj", "1000")
        self._be_nice()
        if plan.has("limits"):
            _limit_all(plan)
        if plan.has("privileges"):
            drop_capabilities()
        if plan.level != "trusted":
            no_new_privileges()

    def finish(self, memory_bytes: int, cpu_s: int) -> None:
        """The last step; user source is read right after."""
        self._be_nice()
        if self.plan.has("limits"):
            space, data = self._memory_now()
            lower(resource.RLIMIT_AS, space + memory_bytes)
            lower(resource.RLIMIT_DATA, data + memory_bytes)
            lower(resource.RLIMIT_CPU, cpu_s, cpu_s + CPU_GRACE_S)
            if not self.plan.has("namespaces"):  # then it counts every thread of this uid, also those of other jobs
                lower(resource.RLIMIT_NPROC, _threads_of(os.getuid(), self.proc) + THREADS)
        os.close(self.proc)
        if self.readable is not None:
            landlock.restrict(self.readable)
            os.close(self.readable)
        if self.plan.level != "trusted":
            kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 0)
        if self._filter is not None:
            self._filter.load(os.getpid())

    def _be_nice(self) -> None:
        """setsid() has made an autogroup of its own, in which `nice` alone means nothing. The kernel takes few such
        wishes a second, so it is asked twice."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
        with suppress(OSError):
            write_at(self.proc, "self/autogroup", str(AUTOGROUP_NICE))

    def _memory_now(self) -> tuple[int, int]:
        """Address space and private data of this process, in bytes, as the kernel counts them for the limits."""
        status = _status(self.proc, "self")
        return int(status["VmSize"].split()[0]) * 1024, int(status["VmData"].split()[0]) * 1024


def _limit_all(plan: Plan) -> None:
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        lower(what, 0)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    lower(resource.RLIMIT_SIGPENDING, PENDING_SIGNALS)
    if plan.has("namespaces"):  # else it counts every process of this uid
        lower(resource.RLIMIT_NPROC, THREADS)


def lower(what: int, soft: int, hard: int | None = None) -> None:
    """Never above the limit that is there."""
    _, ceiling = resource.getrlimit(what)
    wanted = soft if hard is None else hard
    top = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(what, (min(soft, top), top))


def _threads_of(uid: int, proc: int) -> int:
    """Threads of all processes of this user that can be seen from here."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    names = os.listdir(folder)
    os.close(folder)
    count = 0
    for name in names:
        if name.isdigit():
            with suppress(OSError, KeyError):  # it may end while we look
                status = _status(proc, name)
                count += int(status["Threads"]) if int(status["Uid"].split()[0]) == uid else 0
    return count


def _status(proc: int, process: str) -> dict[str, str]:
    file = os.open(f"{process}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        lines = os.read(file, 1 << 16).decode("ascii", "replace").splitlines()
    finally:
        os.close(file)
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
