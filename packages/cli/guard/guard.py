"""Runs one command so that none of its descendants can outlive the keeper that started it.

    python -I -S guard.py [--signal INT] [--grace 5] [--remove PATH ...] -- command...

Two guards are nested and both are child subreapers, so every orphan (Ray's agents call setsid) lands at one of them,
also when the other one is killed. All is ended when stdin closes, the parent dies, SIGTERM, SIGINT or SIGHUP comes, or
the command ends. File descriptor 3, when open, gets the line `pid N`. Exit status: the command's, 128 + its signal.
Standard library only, since it must start in milliseconds. Does not start anything again: the keeper does that.
"""

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STATUS_FD = 3
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Descendants that did not listen to SIGTERM for this long are killed.
TERM_SECONDS = 1.0
# Longer than any of ours needs; only a process that the kernel cannot end (state D) lasts longer.
KILL_SECONDS = 20.0


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Live ones, from /proc. Zombies are left out: they need to be reaped, not killed."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


class Guard:
    """Waits for the command and for reasons to stop, and then ends everything below this process."""

    def __init__(self, command: int, stdin: int, stop_signal: int, grace: float) -> None:
        self.command, self.stdin, self.stop_signal, self.grace = command, stdin, stop_signal, grace
        self.status: int | None = None

    def run(self) -> int:
        wake, wake_write = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        # The parent may have died before PR_SET_PDEATHSIG was set, and the command before the handler: look once now.
        self.reap()
        while self.status is None and not self.stop_wanted(wake):
            self.reap()
        if self.status is None:
            send([self.command], self.stop_signal)
            self.wait(wake, self.grace, lambda: self.status is not None)
        self.end_all(wake)
        return self.status if self.status is not None else 128 + signal.SIGKILL

    def stop_wanted(self, wake: int) -> bool:
        ready, _, _ = select.select([wake, self.stdin], [], [])
        if wake in ready and any(number in STOP_SIGNALS for number in os.read(wake, 4096)):
            return True
        return self.stdin in ready and os.read(self.stdin, 4096) == b""

    def reap(self) -> bool:
        """True while there are children."""
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.command:
                code = os.waitstatus_to_exitcode(raw)
                self.status = code if code >= 0 else 128 - code

    def wait(self, wake: int, seconds: float, done: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while self.reap() and not done() and (left := until - time.monotonic()) > 0:
            if select.select([wake], [], [], min(left, 0.1))[0]:
                os.read(wake, 4096)

    def end_all(self, wake: int) -> None:
        if not self.reap():
            return
        send(descendants(os.getpid()), signal.SIGTERM)
        self.wait(wake, TERM_SECONDS, lambda: False)
        until = time.monotonic() + KILL_SECONDS
        while self.reap() and time.monotonic() < until:
            # Again and again: a process may have been forked since the last look.
            send(descendants(os.getpid()), signal.SIGKILL)
            self.wait(wake, 0.02, lambda: False)


def start_command(command: Sequence[str]) -> int:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        try:
            os.execvp(command[0], list(command))
        except OSError as problem:
            print(f"{command[0]}: {problem.strerror}", file=sys.stderr, flush=True)
            os._exit(127)
    return pid


def remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):  # it was a folder, or is gone
        os.unlink(path)


def report(pid: int) -> None:
    try:
        os.write(STATUS_FD, f"pid {pid}\n".encode())
        os.close(STATUS_FD)
    except OSError:
        pass  # nobody asked


def inner_guard(arguments: argparse.Namespace, outer: int, stdin: int) -> NoReturn:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != outer:
        os._exit(128 + signal.SIGTERM)
    command = start_command(arguments.command)
    report(command)
    code = Guard(command, stdin, arguments.signal, arguments.grace).run()
    os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ends all descendants of a command with it.")
    parser.add_argument("--signal", type=lambda name: int(getattr(signal, f"SIG{name}")), default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    parent = os.getppid()
    with contextlib.suppress(OSError):  # started as a session leader
        os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    with contextlib.suppress(OSError):
        os.set_inheritable(STATUS_FD, False)
    lifeline, lifeline_write = os.pipe()
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        os.close(lifeline_write)
        inner_guard(arguments, outer, lifeline)
    os.close(lifeline)
    with contextlib.suppress(OSError):
        os.close(STATUS_FD)
    # The inner guard gives the command its grace and needs time for the rest; the outer one only steps in when it dies.
    code = Guard(inner, 0, signal.SIGTERM, arguments.grace + TERM_SECONDS + KILL_SECONDS).run()
    for path in arguments.remove:
        remove(path)
    return code


if __name__ == "__main__":
    # Not sys.exit: a flush of a stdout whose reader is gone must not change the status.
    os._exit(main())
