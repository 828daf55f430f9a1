"""System calls that Python lacks, each raising OSError. Numbers and structures are Linux's. Not here: their use."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from typing import Final

# mount(2), mount_setattr(2)
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
# clone(2), unshare(2)
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
# prctl(2)
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_SET_SECUREBITS: Final = 28
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {"clone": 56, "pivot_root": 155},
    "aarch64": {"clone": 220, "pivot_root": 41},
}
# The same on every architecture since Linux 5.
MOUNT_SETATTR: Final = 442
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446
_CAPABILITY_VERSION_3: Final = 0x20080522


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@cache
def libc() -> ctypes.CDLL:
    found = ctypes.CDLL(None, use_errno=True)
    found.syscall.restype = ctypes.c_long
    return found


def number(name: str) -> int:
    """Of a system call whose number differs between architectures."""
    try:
        return _NUMBERS[platform.machine()][name]
    except KeyError:
        raise OSError(38, f"{name} is not known on {platform.machine()}") from None


def call(what: str, function: str, *arguments: object) -> int:
    """One function of the C library that returns -1 and sets errno."""
    result = int(getattr(libc(), function)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(what: str, nr: int, *arguments: object) -> int:
    wide = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    return call(what, "syscall", ctypes.c_long(nr), *wide)


def prctl(what: str, option: int, value: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    call(what, "prctl", ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)


def unshare(flags: int) -> None:
    call("unshare", "unshare", ctypes.c_int(flags))


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = (None if text is None else text.encode() for text in (source, target, kind))
    one, two, three = texts
    last = None if data is None else data.encode()
    call(f"mount {target}", "mount", one, two, three, ctypes.c_ulong(flags), last)


def mount_setattr(path: str, attributes: int, flags: int) -> None:
    wanted = _MountAttr(attr_set=attributes)
    size = ctypes.sizeof(wanted)
    syscall("mount_setattr", MOUNT_SETATTR, -100, ctypes.c_char_p(path.encode()), flags, ctypes.byref(wanted), size)


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", number("pivot_root"), ctypes.c_char_p(new.encode()), ctypes.c_char_p(old.encode()))


def unmount(path: str, flags: int) -> None:
    call("umount2", "umount2", path.encode(), ctypes.c_int(flags))


def set_hostname(name: str) -> None:
    call("sethostname", "sethostname", name.encode(), ctypes.c_size_t(len(name)))


def clear_capabilities() -> None:
    """Empties all sets of this thread."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    call("capset", "capset", ctypes.byref(header), ctypes.byref((_CapData * 2)()))


def clone(flags: int) -> int:
    """fork() into new namespaces, with what Python does around a fork. 0 in the child, which should fork again before
    it runs code of others: the C library's idea of its own thread id is still that of the parent.
    """
    python = ctypes.pythonapi
    raw = ctypes.PyDLL(None, use_errno=True).syscall  # without giving up the interpreter lock in between
    raw.restype = ctypes.c_long
    nothing = ctypes.c_long(0)
    python.PyOS_BeforeFork()
    pid = int(raw(ctypes.c_long(number("clone")), ctypes.c_long(flags), nothing, nothing, nothing, nothing))
    code = ctypes.get_errno()
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"clone: {os.strerror(code)}")
    return pid
