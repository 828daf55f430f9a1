"""Gives away what a process may do beyond its own memory: root's uid, capabilities, new privileges.

Not here: the user namespace and its map (namespaces.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from patchbay_worker.sandbox.lockdown import kernel
from patchbay_worker.sandbox.lockdown.plan import LayerFailed

FIRST_UID: Final = 61184
UIDS: Final = 4336
"""The range that systemd gives to services without a name: nobody's files, nobody's login."""
NOBODY: Final = 65534
# SECBIT_NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, all locked
_SECUREBITS: Final = 0b11101111


def unprivileged_uid(parent: int) -> int:
    """One per worker where this namespace has it, else nobody's."""
    wanted = FIRST_UID + parent % UIDS
    for uid in (wanted, NOBODY):
        if _mapped(uid, "uid_map") and _mapped(uid, "gid_map"):
            return uid
    raise LayerFailed("uid", "no unprivileged uid is mapped into this user namespace")


def _mapped(number: int, kind: str) -> bool:
    with open(f"/proc/self/{kind}", encoding="ascii") as stream:
        ranges = [[int(word) for word in line.split()] for line in stream]
    return any(first <= number < first + count for first, _, count in ranges)


def become(uid: int) -> None:
    """From root to an unprivileged user without groups; all capabilities go with it."""
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError as problem:
        raise LayerFailed("uid", f"root cannot become uid {uid}: {problem}") from problem


def drop_capabilities() -> None:
    """All sets, also what an exec could give back."""
    for capability in range(64):
        try:
            kernel.prctl("bounding set", kernel.PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last capability, or without the right to drop: the sets below are what counts
    with suppress(OSError):
        kernel.prctl("securebits", kernel.PR_SET_SECUREBITS, _SECUREBITS)
    kernel.prctl("ambient capabilities", kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    kernel.clear_capabilities()


def no_new_privileges() -> None:
    kernel.prctl("no_new_privs", kernel.PR_SET_NO_NEW_PRIVS, 1)
