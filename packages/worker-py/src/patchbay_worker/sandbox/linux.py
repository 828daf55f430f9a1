"""The few Linux calls that Python's standard library lacks. Not here: seccomp, Landlock and mounts."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from typing import Final

PR_SET_PDEATHSIG: Final = 1
M_TRIM_THRESHOLD: Final = -1
M_TOP_PAD: Final = -2
M_MMAP_THRESHOLD: Final = -3
PROT_READ_WRITE: Final = 3
MAP_SHARED: Final = 0x01
MAP_FAILED: Final = ctypes.c_void_p(-1).value
MADV_POPULATE_WRITE: Final = 23
MAP_PRIVATE_FIXED_ANONYMOUS: Final = 0x02 | 0x10 | 0x20

HEAP_KEPT_BYTES: Final = 1 << 30
HEAP_STEP_BYTES: Final = 4 << 20  # counts against the memory limit of a job, so not more


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


def current_core() -> int:
    """Number of the core that this thread runs on."""
    core: int = _libc().sched_getcpu()
    return core


def populate(buffer: mmap.mmap, offset: int, length: int) -> None:
    """Makes pages of a mapping present, best effort: cheaper together than each at its first use. Not under the GIL."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    _libc().madvise(start + offset, length, MADV_POPULATE_WRITE)


def die_with_parent(expected_parent: int, signal_number: int) -> None:
    """Asks the kernel for `signal_number` when the *thread* that started this process ends; exits if it has already."""
    if _libc().prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != expected_parent:
        os._exit(1)


class SharedMapping:
    """`length` bytes of a file as a writable buffer, unmapped when the last user of `buffer` is gone.

    Python's own mmap keeps a descriptor per mapping, and a job may have few.
    """

    def __init__(self, fd: int, length: int, offset: int) -> None:
        address = _libc().mmap(None, length, PROT_READ_WRITE, MAP_SHARED, fd, offset)
        if address == MAP_FAILED:
            raise MemoryError("no address space left for a tensor")
        self.length = length
        self.buffer = (ctypes.c_char * length).from_address(address)
        weakref.finalize(self.buffer, _libc().munmap, address, length).atexit = False


def replace_by_private_memory(address: int, length: int) -> None:
    """Puts fresh private pages at a page-aligned range that is mapped already. Raises MemoryError at a limit."""
    got = _libc().mmap(address, length, PROT_READ_WRITE, MAP_PRIVATE_FIXED_ANONYMOUS, -1, 0)
    if got != address:
        raise MemoryError("no memory left to keep a tensor")


def keep_large_blocks() -> None:
    """Makes malloc keep large freed blocks: fresh pages cost more than the copy into them (42 MB: 19 ms against 2)."""
    libc = _libc()
    libc.mallopt(M_MMAP_THRESHOLD, HEAP_KEPT_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES)
    libc.mallopt(M_TOP_PAD, HEAP_STEP_BYTES)


MALLOC_ENV: Final = {
    # The same for a process that is about to be started.
    "MALLOC_MMAP_THRESHOLD_": str(HEAP_KEPT_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(HEAP_KEPT_BYTES),
    "MALLOC_TOP_PAD_": str(HEAP_STEP_BYTES),
}
