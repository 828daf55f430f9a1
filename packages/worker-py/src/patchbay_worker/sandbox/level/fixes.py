"""What an operator can do about a layer that a machine refuses, by where the worker runs. Not here: finding out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from patchbay_worker.sandbox.lockdown.plan import LayerFailed

KUBERNETES: Final = (
    "Put infra/seccomp/patchbay.json on the nodes and name it as the pod's seccompProfile (type: Localhost); "
    "docs/security.md has the lines."
)
DOCKER: Final = (
    "Start the container with --security-opt seccomp=infra/seccomp/patchbay.json; docs/security.md says more."
)
APPARMOR: Final = (
    "Ubuntu's AppArmor takes the rights of new user namespaces: "
    "install infra/apparmor/patchbay, or sysctl kernel.apparmor_restrict_unprivileged_userns=0."
)
NONE_ALLOWED: Final = "User namespaces are switched off: sysctl user.max_user_namespaces=10000."
DEBIAN_OLD: Final = "User namespaces are for root alone here: sysctl kernel.unprivileged_userns_clone=1."
LANDLOCK: Final = "Add landlock to the kernel's list of security modules (boot option lsm=landlock,...), Linux >= 5.13."
SECCOMP: Final = "apt-get install -y libseccomp2"
NO_CGROUP: Final = "docs/security.md says how a worker is given one, under Memory."
OTHER: Final = "docs/security.md lists what each level needs."


def fix_for(failed: LayerFailed) -> str:
    if failed.layer == "landlock":
        return LANDLOCK
    if failed.layer == "seccomp":
        return SECCOMP
    if failed.layer in ("namespaces", "root"):
        return _for_namespaces()
    return OTHER


def _for_namespaces() -> str:
    if _setting("user/max_user_namespaces") == "0":
        return NONE_ALLOWED
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return DEBIAN_OLD
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return KUBERNETES
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return DOCKER
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return APPARMOR
    return OTHER


def _setting(name: str) -> str | None:
    with suppress(OSError):
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    return None
