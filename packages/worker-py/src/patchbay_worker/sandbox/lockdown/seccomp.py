"""Makes the seccomp filter of syscalls.RULES through the system's libseccomp. Not here: which calls (syscalls.py)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Plan
from patchbay_worker.sandbox.lockdown.syscalls import RULES, Rule

if TYPE_CHECKING:
    import pyseccomp

UNKNOWN: Final = -1
PACKAGE: Final = "libseccomp is not installed (Debian, Ubuntu: apt-get install -y libseccomp2)"


class Filter:
    """Made once by the zygote; each job adds its own pid and loads it."""

    def __init__(self, plan: Plan) -> None:
        self._library = _library()
        self._rules = [rule for rule in RULES if plan.sees_files or not rule.files]
        self._off = plan.rules_off
        library = self._library
        self._made = library.SyscallFilter(library.ERRNO(errno.EPERM))
        self._made.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)  # also numbers of the x32 calls
        self._made.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a binary tree instead of a list
        for rule in self._rules:
            if rule.own_pid is None:
                for name in rule.calls.split():
                    self._add(rule, name, [library.Arg(c.arg, library.MASKED_EQ, c.mask, c.value) for c in rule.checks])
        for name in self._off:
            self._made.add_rule(library.ALLOW, name)

    def load(self, pid: int) -> None:
        """For this process and all its threads, for good."""
        library = self._library
        for rule in self._rules:
            if rule.own_pid is not None:
                for name in rule.calls.split():
                    self._add(rule, name, [library.Arg(rule.own_pid, library.EQ, pid)])
        self._made.set_attr(library.Attr.CTL_TSYNC, 1)
        self._made.load()

    def _add(self, rule: Rule, name: str, checks: list[pyseccomp.Arg]) -> None:
        library = self._library
        nr = library.resolve_syscall(library.Arch.NATIVE, name)
        if nr == UNKNOWN or name in self._off:
            return  # unknown to this version of libseccomp: it stays at EPERM
        action = {"allow": library.ALLOW, "kill": library.KILL_PROCESS, "absent": library.ERRNO(errno.ENOSYS)}
        self._made.add_rule(action[rule.action], nr, *checks)


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError, AttributeError):
        raise LayerFailed("seccomp", PACKAGE) from None
    return pyseccomp
