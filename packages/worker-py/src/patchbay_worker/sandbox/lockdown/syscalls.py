"""Which system calls a job may make: the rows of the seccomp filter, each with its reason. Start at RULES.

What no row names gives EPERM, an exception that the user can read. Calls without any honest use end the process.
Not here: how rows become a filter (seccomp.py).
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import Final, Literal

from patchbay_worker.sandbox.lockdown.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

Action = Literal["allow", "kill", "absent"]


@dataclass(frozen=True)
class Check:
    """`value` of argument number `arg` under `mask`."""

    arg: int
    value: int
    mask: int = 2**64 - 1


@dataclass(frozen=True)
class Rule:
    """`calls` are treated alike. `checks` must all hold; `own_pid` is an argument that must be the job's own pid."""

    calls: str
    why: str
    action: Action = "allow"
    checks: tuple[Check, ...] = ()
    own_pid: int | None = None
    files: bool = False
    """Needs the file system, which the level `filtered` does not leave."""


def one_of(calls: str, why: str, arg: int, *values: int) -> list[Rule]:
    """The call with one of these values."""
    return masked(calls, why, arg, 2**32 - 1, *values)


def masked(calls: str, why: str, arg: int, mask: int, *values: int) -> list[Rule]:
    """The same, where only some bits count."""
    return [Rule(calls, why, checks=(Check(arg, value, mask),)) for value in values]


THREAD: Final = 0x00010000 | 0x00000100 | 0x00000800  # CLONE_THREAD, CLONE_VM, CLONE_SIGHAND
NEW_NAMESPACES: Final = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)
# O_PATH: a handle on a file of which Landlock knows nothing
READ_ONLY: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_PATH | (os.O_TMPFILE & ~os.O_DIRECTORY)
# FUTEX_WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET, each also private and with a real-time
# clock; not those with priorities, which nothing here uses and many ways into a kernel have
FUTEX: Final = (0, 1, 3, 4, 5, 9, 10)
FUTEX_FLAGS: Final = 128 | 256
# Clocks of the machine, of this process and this thread; a clock of another process has a number below zero
OWN_CLOCKS: Final = 2**32 - 1 - 15
F_GET_SEALS: Final = 1034
TCGETS, FIOCLEX, FIONCLEX, FIONREAD = 0x5401, 0x5451, 0x5450, 0x541B
MAP_HUGETLB: Final = 0x40000
# All of madvise(2) but REMOVE, MERGEABLE, UNMERGEABLE, HWPOISON, SOFT_OFFLINE; the last two are guards of a C library
ADVICE: Final = (0, 1, 2, 3, 4, 8, 10, 11, *range(14, 26), 102, 103)
PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA = 3, 15, 16, 0x53564D41

RULES: Final[tuple[Rule, ...]] = (
    Rule("read readv pread64 write writev lseek close", "the socket to the worker, the log, files that are open"),
    Rule("dup dup2 dup3", "descriptors of its own"),
    Rule("fstat", "Python's open() asks for the size of what it has opened"),
    Rule("poll ppoll select pselect6 epoll_wait epoll_pwait", "waiting on descriptors of its own"),
    Rule("munmap mremap brk msync", "memory, within RLIMIT_AS"),
    Rule("mmap", "memory, within RLIMIT_AS; never the huge pages of the host", checks=(Check(3, 0, MAP_HUGETLB),)),
    *one_of("madvise", "what memory is for; not: sharing pages with others, punching holes", 2, *ADVICE),
    Rule("mprotect", "libraries that compile code as they run (oneDNN); so native code is no attack by itself"),
    *masked("futex", "locks of threads", 1, 2**32 - 1 - FUTEX_FLAGS, *FUTEX),
    Rule("set_robust_list rseq membarrier", "locks of threads"),
    Rule("rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn sigaltstack", "handlers of its own signals"),
    Rule("pause nanosleep gettimeofday time times", "clocks"),
    *masked("clock_gettime clock_getres clock_nanosleep", "clocks, not those of other processes", 0, OWN_CLOCKS, 0),
    Rule("getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp", "who it is"),
    Rule("uname sysinfo getrlimit getrusage sched_yield sched_getaffinity getcpu getrandom", "facts and chance"),
    Rule("exit exit_group set_tid_address restart_syscall", "the end of a thread or of the process"),
    Rule("open", "lazy imports; reading alone", checks=(Check(1, 0, READ_ONLY),), files=True),
    Rule("openat", "lazy imports; reading alone", checks=(Check(2, 0, READ_ONLY),), files=True),
    Rule("stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat", "lazy imports", files=True),
    Rule("getdents64 getcwd statfs fstatfs", "lazy imports list folders", files=True),
    Rule(
        "clone",
        "threads of this process, never a process or a namespace",
        checks=(Check(0, THREAD, THREAD | NEW_NAMESPACES),),
    ),
    Rule("clone3 openat2", "their arguments cannot be checked; the C library then takes the older call", "absent"),
    Rule("kill tgkill", "abort() and raise(), to itself", own_pid=0),
    *one_of(
        "fcntl",
        "copies and flags of descriptors",
        1,
        fcntl.F_DUPFD,
        fcntl.F_DUPFD_CLOEXEC,
        fcntl.F_GETFD,
        fcntl.F_SETFD,
        fcntl.F_GETFL,
        fcntl.F_SETFL,
        F_GET_SEALS,
    ),
    *one_of("ioctl", "isatty() and close-on-exec", 1, TCGETS, FIOCLEX, FIONCLEX, FIONREAD),
    *one_of("prctl", "names of threads and of memory", 0, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA),
    Rule("prlimit64", "reading its own limits", checks=(Check(0, 0), Check(2, 0))),
    Rule("ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd", "other processes", "kill"),
    Rule("pidfd_send_signal process_madvise process_mrelease", "other processes", "kill"),
    Rule("mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick", "mounts", "kill"),
    Rule("mount_setattr swapon swapoff quotactl quotactl_fd name_to_handle_at open_by_handle_at", "mounts", "kill"),
    Rule("unshare setns", "namespaces", "kill"),
    Rule("bpf perf_event_open userfaultfd lookup_dcookie modify_ldt", "favourite ways into a kernel", "kill"),
    Rule("io_uring_setup io_uring_enter io_uring_register", "calls past every filter", "kill"),
    Rule("keyctl add_key request_key", "keys of the kernel", "kill"),
    Rule("kexec_load kexec_file_load init_module finit_module delete_module reboot syslog", "the machine", "kill"),
    Rule("personality vmsplice acct iopl ioperm settimeofday clock_settime adjtimex", "the machine", "kill"),
    Rule("clock_adjtime sethostname setdomainname vhangup nfsservctl", "the machine", "kill"),
)
