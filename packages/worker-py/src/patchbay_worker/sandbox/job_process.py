"""A job process as the worker holds it: socket, pidfd, log and status pipes. Not here: what is said over the socket."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from patchbay_worker.sandbox.arena import Arena
from patchbay_worker.sandbox.cgroup.folders import JobCgroup
from patchbay_worker.sandbox.linux import current_core
from patchbay_worker.sandbox.where import stack_in
from patchbay_worker.sandbox.wire.control import ASK, STATUS

EXIT_WAIT_S: Final = 2.0
NOWHERE: Final = -1
"""Instead of the number of a core."""
WHERE_S: Final = 0.1
LOG_CHUNK: Final = 65536
LOG_FLOOD_FACTOR: Final = 4


@dataclass(frozen=True)
class Exit:
    """How a job process ended."""

    signal_name: str | None
    """Such as `SIGSEGV`; None after an exit."""
    code: int
    out_of_memory: bool
    """It was killed, and the kernel has killed for memory: in its cgroup, or, without one, anywhere."""
    cpu_s: float = 0.0

    def __str__(self) -> str:
        return f"killed by {self.signal_name}" if self.signal_name else f"it exited with status {self.code}"


class JobProcess:
    """Owns the descriptors; `kill` may be called from any thread, the rest from one."""

    def __init__(self, pid: int, pidfd: int, sock: socket.socket, log_fd: int, status_fd: int) -> None:
        self.pid = pid
        self.cgroup: JobCgroup | None = None
        self.sock = sock
        self.log_fd = log_fd
        self._pidfd = pidfd
        self._status_fd = status_fd
        self._lock = threading.Lock()
        self._closed = False
        self._arena: Arena | None = None
        self._cores = os.sched_getaffinity(0)
        self._kept_off = NOWHERE
        self._oom_kills = _oom_kills()
        self._log = bytearray()
        sock.setblocking(False)  # a socket with a time-out would turn MSG_DONTWAIT into a wait
        os.set_blocking(log_fd, False)

    def make_arena(self, size: int) -> None:
        """In advance, of the size that most jobs want. Where it cannot be made, the job that needs it will say so."""
        with suppress(OSError):
            self._arena = Arena.ready(size)

    def arena_of(self, size: int) -> Arena:
        """For the job, which closes it: the one that was made in advance where that has the size."""
        arena, self._arena = self._arena, None
        if arena is not None and arena.size != size:
            arena.close()
            arena = None
        return arena or Arena(size)

    def keep_off_this_core(self) -> bool:
        """For a thread that will wait for the job awake; whether the two do not share a core.

        The kernel likes to wake a process up on the core of whoever wakes it, as if that would sleep soon. A thread
        that does not keeps the job, whose priority is lower, from running until it does.
        """
        core = current_core()
        if self._cores and core != self._kept_off:
            self._allow(self._cores - {core})
            self._kept_off = core
        return bool(self._cores)

    def share_every_core(self) -> None:
        """For a thread that goes to sleep: the core that it leaves may be the only one that is free."""
        if self._cores and self._kept_off != NOWHERE:
            self._allow(self._cores)
            self._kept_off = NOWHERE

    def _allow(self, cores: set[int]) -> None:
        try:
            os.sched_setaffinity(_last_in(self.pid), cores)
        except OSError:  # there is no other core, it has ended, or it is not ours to move
            self._cores = set()

    def alive(self) -> bool:
        """Whether the process still runs (it may be busy)."""
        return not _readable(self._pidfd, 0)

    def ended(self, timeout_s: float) -> bool:
        """Whether it ends within this time, with everything that it may have started."""
        return _readable(self._pidfd, timeout_s)

    def kill(self) -> None:
        with self._lock:
            if not self._closed:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def exit(self) -> Exit | None:
        """Waits for the end of the process; None when its zygote could not report it."""
        if not _readable(self._status_fd, EXIT_WAIT_S):
            return None
        data = os.read(self._status_fd, STATUS.size)
        if len(data) != STATUS.size:
            return None
        status, cpu_us = STATUS.unpack(data)
        if not os.WIFSIGNALED(status):
            return Exit(None, os.waitstatus_to_exitcode(status), False, cpu_us / 1e6)
        number = os.WTERMSIG(status)
        killed = number == signal.SIGKILL and self._ran_out()
        return Exit(_signal_name(number), -number, killed, cpu_us / 1e6)

    def _ran_out(self) -> bool:
        return _oom_kills() > self._oom_kills if self.cgroup is None else self.cgroup.ran_out()

    def drain_log(self, limit: int) -> None:
        """Reads what the job has printed; a job that prints without end finds its pipe closed."""
        while self.log_fd >= 0:
            try:
                chunk = os.read(self.log_fd, LOG_CHUNK)
            except BlockingIOError:
                return
            self._log += chunk
            if not chunk or len(self._log) > LOG_FLOOD_FACTOR * limit + LOG_CHUNK:
                os.close(self.log_fd)
                self.log_fd = -1

    def where(self, limit: int) -> dict[str, Any] | None:
        """The line of user code that runs now, as far as the job says; what it says does not stay in the log."""
        mark, end = len(self._log), time.monotonic() + WHERE_S
        with self._lock:
            if self._closed:
                return None
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, ASK)
        stack = None
        while not (stack and stack.whole) and self.log_fd >= 0 and (left := end - time.monotonic()) > 0:
            if _readable(self.log_fd, left):
                self.drain_log(limit)
                stack = stack_in(self._log, mark)
        if stack is None:
            return None
        del self._log[stack.start :]
        return stack.remote

    def log_text(self) -> str:
        return self._log.decode("utf-8", "replace")

    def close(self) -> None:
        """Ends the process and gives the descriptors back; safe to call twice."""
        self.kill()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self.cgroup is not None:
                self.cgroup.retire()
            self.sock.close()
            for fd in (self._pidfd, self._status_fd, self.log_fd):
                if fd >= 0:
                    os.close(fd)
            self.log_fd = -1
            if self._arena is not None:
                self._arena.close()


def _last_in(pid: int) -> int:
    """The job of this init; the process itself where it is no init."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])
    except (OSError, IndexError):
        return pid


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


def _readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _oom_kills() -> int:
    """How many processes this kernel has killed for memory so far; 0 where it does not tell."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
