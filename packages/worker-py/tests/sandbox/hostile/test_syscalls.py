"""Every row of the filter: what it stops is stopped, and with the row taken out it is not, so these tests can fail."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patchbay_worker.sandbox.lockdown.plan import Level
from patchbay_worker.sandbox.lockdown.syscalls import RULES

RUNNER = Path(__file__).with_name("syscall_runner.py")
LEVELS: tuple[Level, ...] = ("isolated", "confined", "filtered")
BAD = [-1] * 6
KILLED = sorted(name for rule in RULES if rule.action == "kill" for name in rule.calls.split())

# No row names them, so that they meet the filter's default.
UNNAMED_TEXT = """
socket socketpair connect bind listen accept4 sendto sendmsg recvmsg memfd_create memfd_secret pipe2 eventfd2 fork
vfork execve execveat ftruncate fallocate pwrite64 inotify_init1 fanotify_init timerfd_create timer_create signalfd4
epoll_create1 shmget shmat msgget semget mq_open setuid setgid setresuid setgroups setrlimit capset seccomp
landlock_create_ruleset mkdirat unlinkat renameat2 linkat symlinkat chmod fchmodat chown utimensat truncate mknodat
sched_setaffinity sched_setscheduler setpriority mlock mlockall mincore remap_file_pages move_pages migrate_pages
mbind tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open sendfile splice tee copy_file_range getpriority ioprio_set
alarm setitimer get_robust_list futex_waitv flock io_setup io_submit set_mempolicy signalfd
setsid setpgid chdir fchdir umask setxattr getxattr sync syncfs pkey_alloc arch_prctl waitid wait4
"""
UNNAMED = UNNAMED_TEXT.split()

CHECKED: dict[str, list[Any]] = {
    "clone": [17, 0, 0, 0, 0, 0],  # a process
    "open": [0, os.O_CREAT | os.O_WRONLY, 0o600, 0, 0, 0],
    "openat": [-100, 0, os.O_RDWR, 0, 0, 0],
    "futex": [0, 6, 0, 0, 0, 0],  # FUTEX_LOCK_PI
    "clock_gettime": [-6, 0, 0, 0, 0, 0],  # the CPU time of another process
    "clock_nanosleep": [-6, 0, 0, 0, 0, 0],
    "clock_getres": [-6, 0, 0, 0, 0, 0],
    "kill": [0, 0, 0, 0, 0, 0],  # its process group
    "tgkill": [4194303, 4194303, 0, 0, 0, 0],
    "fcntl": [1, fcntl.F_SETOWN, 0, 0, 0, 0],
    "ioctl": [1, 0x5412, 0, 0, 0, 0],  # TIOCSTI
    "prctl": [4, 1, 0, 0, 0, 0],  # PR_SET_DUMPABLE
    "prlimit64": [0, 7, -1, 0, 0, 0],
    "mmap": [0, 4096, 3, 0x40022, -1, 0],  # MAP_HUGETLB
    "madvise": [0, 4096, 12, 0, 0, 0],  # MADV_MERGEABLE
}
ABSENT = {"clone3": [0, 0, 0, 0, 0, 0], "openat2": [-1, 0, 0, 0, 0, 0]}
FILES = {
    "stat": BAD,
    "newfstatat": BAD,
    "openat": [-100, 0, 0, 0, 0, 0],
    "readlinkat": BAD,
    "getcwd": BAD,
    "statfs": BAD,
    "getdents64": BAD,
    "faccessat2": BAD,
}


def run(cases: list[dict[str, Any]]) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(RUNNER)], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers


def case(level: str, call: str | int, arguments: list[Any], off: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"level": level, "call": call, "arguments": arguments, "off": list(off)}


@pytest.mark.parametrize("level", LEVELS)
def test_what_no_row_names_is_refused(level: str) -> None:
    answers = dict(zip(UNNAMED, run([case(level, name, BAD) for name in UNNAMED]), strict=True))
    assert {name: answer for name, answer in answers.items() if answer not in ("EPERM", "unknown")} == {}
    assert list(answers.values()).count("unknown") <= 4, "the table must name real calls"


@pytest.mark.parametrize("level", LEVELS)
def test_calls_without_honest_use_end_the_process(level: str) -> None:
    answers = dict(zip(KILLED, run([case(level, name, BAD) for name in KILLED]), strict=True))
    assert {name: answer for name, answer in answers.items() if answer not in ("SIGSYS", "unknown")} == {}
    assert len(KILLED) > 50


def test_each_of_these_rows_is_needed() -> None:
    answers = dict(zip(KILLED, run([case("isolated", name, BAD, (name,)) for name in KILLED]), strict=True))
    assert [name for name, answer in answers.items() if answer == "SIGSYS"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_arguments_are_checked(level: str) -> None:
    answers = dict(zip(CHECKED, run([case(level, *item) for item in CHECKED.items()]), strict=True))
    assert set(answers.values()) == {"EPERM"}, answers


def test_each_check_is_needed() -> None:
    answers = dict(zip(CHECKED, run([case("isolated", n, a, (n,)) for n, a in CHECKED.items()]), strict=True))
    assert [name for name, answer in answers.items() if answer == "EPERM"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_calls_that_cannot_be_checked_seem_absent(level: str) -> None:
    assert run([case(level, *item) for item in ABSENT.items()]) == ["ENOSYS", "ENOSYS"]
    assert "ENOSYS" not in run([case(level, *item, (item[0],)) for item in ABSENT.items()])


def test_filtered_leaves_no_file() -> None:
    assert set(run([case("filtered", *item) for item in FILES.items()])) <= {"EPERM", "unknown"}
    assert "EPERM" not in run([case("confined", *item) for item in FILES.items()])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of the x32 calls exist on x86_64 alone")
def test_numbers_of_another_architecture_end_the_process() -> None:
    x32 = 0x40000000
    assert run([case("isolated", x32 + number, BAD) for number in (0, 1, 41, 56, 59)]) == ["SIGSYS"] * 5


def test_what_a_job_needs_is_allowed() -> None:
    wanted = [
        case("isolated", "getpid", [0] * 6),
        case("isolated", "kill", ["pid", 0, 0, 0, 0, 0]),
        case("isolated", "prlimit64", [0, 7, 0, 0, 0, 0]),
        case("isolated", "fcntl", [1, fcntl.F_GETFD, 0, 0, 0, 0]),
        case("isolated", "sched_yield", [0] * 6),
    ]
    assert run(wanted) == ["ok"] * 5
