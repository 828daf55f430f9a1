"""Becomes what an ordinary container gives a process, then runs a command: a root of its own that looks like Docker's,
Docker's default capabilities, and a seccomp profile in the format of Docker and Kubernetes. As root; no engine needed.

    python container.py PROFILE.json FOLDER COMMAND...
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import pyseccomp

from patchbay_worker.sandbox.lockdown import kernel

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
# AUDIT_WRITE, SETFCAP
CAPABILITIES: Final = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
ACTIONS: Final = {"SCMP_ACT_ALLOW": pyseccomp.ALLOW, "SCMP_ACT_ERRNO": None}
EPERM: Final = 1


def enter_root(folder: Path) -> None:
    """An overlay over this machine's root, with Docker's mark in it."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("container", str(folder), "tmpfs", 0)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    (folder / "upper/.dockerenv").touch()
    root = folder / "root"
    kernel.mount("overlay", str(root), "overlay", 0, f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work")
    for name in ("proc", "dev", "sys"):
        kernel.mount(f"/{name}", str(root / name), None, kernel.MS_BIND | kernel.MS_REC)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")


def load(profile: dict[str, Any]) -> None:
    """As runc does: before the capabilities go, so without no_new_privs."""
    made = pyseccomp.SyscallFilter(_action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    made.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    for rule in profile["syscalls"]:
        action = _action(rule["action"], rule.get("errnoRet"))
        checks = [_check(each) for each in rule.get("args") or ()]
        for name in rule["names"]:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) != -1:
                made.add_rule(action, name, *checks)
    made.load()


def _action(name: str, errno: int | None) -> int:
    known = ACTIONS[name]
    return int(pyseccomp.ERRNO(errno or EPERM)) if known is None else int(known)


def _check(argument: dict[str, Any]) -> pyseccomp.Arg:
    operator = getattr(pyseccomp, argument["op"].removeprefix("SCMP_CMP_"))
    values = (argument["value"], argument.get("valueTwo", 0))
    return pyseccomp.Arg(argument["index"], operator, *values[: 2 if operator == pyseccomp.MASKED_EQ else 1])


def keep_capabilities() -> None:
    for each in range(64):
        if each not in CAPABILITIES:
            ctypes.CDLL(None).prctl(kernel.PR_CAPBSET_DROP, each, 0, 0, 0)
    kept = sum(1 << each for each in CAPABILITIES)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*(kept & 0xFFFFFFFF, kept & 0xFFFFFFFF, 0, 0, 0, 0))
    kernel.call("capset", "capset", ctypes.byref(header), ctypes.byref(data))


def main() -> None:
    profile, folder, *command = sys.argv[1:]
    rules = json.loads(Path(profile).read_text(encoding="utf-8"))
    enter_root(Path(folder))
    load(rules)
    keep_capabilities()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
