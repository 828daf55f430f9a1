"""Own namespaces for the zygote and, inside of these, for every job. Not here: the root tree (root_tree.py).

As root, the worker maps the whole range of ids into the zygote's namespace, so that it can open the folders that jobs
read before it becomes an unprivileged user. Otherwise the one id there is maps to itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

from patchbay_worker.sandbox.lockdown import kernel
from patchbay_worker.sandbox.lockdown.plan import LayerFailed

OUTER: Final = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
PER_JOB: Final = OUTER | kernel.CLONE_NEWPID | signal.SIGCHLD
HOSTNAME: Final = "sandbox"


def enter_outer(ask_for_map: Callable[[], None]) -> None:
    """`ask_for_map` returns once the worker has written the maps; used as root only."""
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(OUTER)
    except OSError as problem:
        raise LayerFailed("namespaces", f"{problem}") from problem
    try:
        if uid == 0:
            ask_for_map()
        else:
            proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            map_own_id(proc, uid, gid)
            os.close(proc)
    except OSError as problem:
        raise LayerFailed("namespaces", f"the map of ids is refused: {problem}") from problem
    kernel.set_hostname(HOSTNAME)


def map_own_id(proc: int, uid: int, gid: int) -> None:
    """In a new user namespace: this one id, as itself. `proc` is a descriptor of /proc."""
    kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)  # else these files belong to root
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        write_at(proc, f"self/{name}", text)


def write_at(folder: int, path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def write_full_map(pid: int) -> None:
    """By the worker, as root: every id that it has itself, as itself, for the zygote's namespace."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", encoding="ascii") as own:
            ranges = [line.split() for line in own]
        text = "\n".join(f"{first} {first} {count}" for first, _, count in ranges)
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as theirs:
            theirs.write(f"{text}\n")
