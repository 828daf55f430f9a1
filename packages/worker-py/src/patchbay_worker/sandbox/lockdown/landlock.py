"""Landlock: a job may read below a few folders and nothing else. Every right that the kernel knows is taken.

ABI 1 (Linux 5.13) knows files only; 2 adds links across folders, 3 truncate, 4 TCP, 5 ioctl, 6 abstract sockets and
signals. What an older kernel lacks is left to seccomp. Not covered by any: stat().
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from patchbay_worker.sandbox.lockdown import kernel

READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
_FILE_RIGHTS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
"""(ABI, how many rights of files it knows)."""
_NET_RIGHTS: Final = 3
_SCOPES: Final = 3
_VERSION: Final = 1
_PATH_BENEATH: Final = 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """0 where the kernel has none."""
    with suppress(OSError):
        return kernel.syscall("landlock", kernel.LANDLOCK_CREATE_RULESET, 0, 0, _VERSION)
    return 0


def ruleset(readable: Sequence[int], version: int) -> int:
    """A descriptor of the rules: everything handled, reading allowed below the folders of `readable` (descriptors)."""
    rights = max(count for least, count in _FILE_RIGHTS if version >= least)
    wanted = _Ruleset((1 << rights) - 1, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    made = kernel.syscall("landlock_create_ruleset", kernel.LANDLOCK_CREATE_RULESET, ctypes.byref(wanted), size, 0)
    for folder in readable:
        rule = _PathBeneath(READ_FILE | READ_DIR, folder)
        nr, pointer = kernel.LANDLOCK_ADD_RULE, ctypes.byref(rule)
        kernel.syscall("landlock_add_rule", nr, made, _PATH_BENEATH, pointer, 0)
    os.set_inheritable(made, False)
    return made


def restrict(made: int) -> None:
    """From here on for this process; needs no_new_privs."""
    kernel.syscall("landlock_restrict_self", kernel.LANDLOCK_RESTRICT_SELF, made, 0)
