"""What a job process does to itself before it reads anything of a user, in order. Any failure ends the process.

Level `trusted`: the job cannot outlive its worker and is bounded in memory and CPU time, but it runs with the worker's
rights. Namespaces, the read-only root, Landlock and seccomp belong into `enter` and `limit`, and nowhere else.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from patchbay_worker.sandbox.linux import die_with_parent

OPEN_FILES: Final = 64
CPU_GRACE_S: Final = 5


def enter(zygote_pid: int) -> None:
    """The slow half, run while the process waits in the pool."""
    die_with_parent(zygote_pid, signal.SIGKILL)
    os.setsid()  # kill(0) must not reach the zygote
    with suppress(OSError):
        # When memory runs out, this process is the one to go, not a rank with a shard of the model.
        Path("/proc/self/oom_score_adj").write_text("1000")
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        _lower(what, 0)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """The quick half, when the job's limits and arena have come; user source is read right after."""
    space, data = _memory_now()
    _lower(resource.RLIMIT_AS, space + memory_bytes)
    _lower(resource.RLIMIT_DATA, data + memory_bytes)
    _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + CPU_GRACE_S)


def _lower(what: int, soft: int, hard: int | None = None) -> None:
    _, ceiling = resource.getrlimit(what)
    wanted = soft if hard is None else hard
    top = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(what, (min(soft, top), top))


def _memory_now() -> tuple[int, int]:
    """Address space and private data of this process, in bytes, as the kernel counts them for the limits."""
    fields = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in fields) if " kB" in value}
    return kib["VmSize"] * 1024, kib["VmData"] * 1024
