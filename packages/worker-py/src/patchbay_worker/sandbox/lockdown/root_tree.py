"""The root folder that jobs see: a tiny read-only tmpfs with the folders that Python imports from, at their own paths.

No /proc, /sys, /dev, /etc or /home, no place to write. Built once by the zygote in its own mount namespace; each job
gets a copy of that. Folders are opened before the tmpfs may hide them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from patchbay_worker.sandbox.lockdown import kernel

READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
"""As mount flags; the first three attributes of mount_setattr have the same values."""
STAGES: Final = ("/tmp", "/usr", "/var")
TREE_BYTES: Final = 256 << 10


def enter_root_tree(folders: Sequence[str]) -> None:
    """In a mount namespace of its own: from here on "/" is the tree. A folder that cannot be bound is an error."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    sources = [(folder, os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for folder in folders]
    stage = next(folder for folder in STAGES if Path(folder).is_dir())
    options = f"size={TREE_BYTES},nr_inodes=1024,mode=755"
    kernel.mount("patchbay", stage, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    for name in ("lib", "lib64"):  # where the loader looks
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{stage}/{name}")
    for folder, source in sources:
        target = stage + folder
        if os.path.isdir(target):
            continue  # within one that is there already
        os.makedirs(target, mode=0o755, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{source}", target, None, kernel.MS_BIND | kernel.MS_REC)
        _read_only(target)
        os.close(source)
    os.chdir(stage)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | READ_ONLY | kernel.MS_NOEXEC
    kernel.mount(None, "/", None, flags)


def _read_only(target: str) -> None:
    try:
        kernel.mount_setattr(target, READ_ONLY, kernel.AT_RECURSIVE)
    except OSError as problem:
        if problem.errno != 38:  # ENOSYS: before Linux 5.12
            raise
        # A remount must keep the flags that an outer namespace has locked.
        locked = os.statvfs(target).f_flag & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        kernel.mount(None, target, None, kernel.MS_REMOUNT | kernel.MS_BIND | READ_ONLY | locked)
