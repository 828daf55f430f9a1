"""The zygote: imports torch once, forks job processes on request, reports how they ended. Never sees user data.

Its socket carries only requests to fork, with three descriptors each: the job's socket, its log, its status pipe.
It ends when the worker does. Not here: anything that a job does after the fork (server.py).
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from shutil import rmtree
from typing import Final, NamedTuple

from patchbay_worker.sandbox.linux import die_with_parent
from patchbay_worker.sandbox.wire.control import FORK, FORKED, READY, STATUS

PRELOAD: Final = (
    "torch",
    "torch.optim",
    "torch._dynamo",
    "torch.distributions",
    "torch.nn.utils.parametrize",
    "numpy",
    "patchbay_worker.sandbox.job.server",
)
PRELOAD_IF_INSTALLED: Final = ("einops",)

HIGH_FD: Final = 16


class Child(NamedTuple):
    pid: int
    status_fd: int


def main(control_fd: int, worker_pid: int) -> None:
    """Runs until the worker's end of the socket is closed."""
    die_with_parent(worker_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    control = socket.socket(fileno=control_fd)
    control.send(READY)
    Zygote(control).serve()


def preload() -> None:
    """Imports what edits use; some of it writes to a temporary directory at import, which is gone afterwards."""
    directory = tempfile.mkdtemp(prefix="patchbay-zygote-")
    tempfile.tempdir = directory
    try:
        for name in PRELOAD:
            import_module(name)
        for name in PRELOAD_IF_INSTALLED:
            with suppress(ImportError):
                import_module(name)
        import_module("torch").set_num_threads(1)
    finally:
        tempfile.tempdir = None
        rmtree(directory, ignore_errors=True)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:  # a fork would copy locks that another thread holds
        raise RuntimeError(f"the zygote has {threads} threads after its imports")
    gc.collect()
    gc.freeze()  # the collector would otherwise write to every page that jobs share


class Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._children: dict[int, Child] = {}

    def serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._reap(fd)
                elif not self._request():
                    return

    def _request(self) -> bool:
        """False when the worker is gone; the kernel then ends the jobs, which asked for it."""
        data, fds, _, _ = socket.recv_fds(self._control, 16, 3)
        if not data:
            return False
        if data != FORK or len(fds) != 3:
            raise RuntimeError("unknown request")
        job_fd, log_fd, status_fd = fds
        try:
            pid = os.fork()
        except OSError as problem:
            self._control.send(FORKED.pack(-(problem.errno or 1)))
            for descriptor in fds:
                os.close(descriptor)
            return True
        if pid == 0:
            self._become_job(job_fd, log_fd)
        pidfd = os.pidfd_open(pid)
        os.close(job_fd)
        os.close(log_fd)
        self._children[pidfd] = Child(pid, status_fd)
        self._poll.register(pidfd, select.POLLIN)
        socket.send_fds(self._control, [FORKED.pack(pid)], [pidfd])
        return True

    def _become_job(self, job_fd: int, log_fd: int) -> None:
        """The child's half: its own descriptors and nothing else, then its own code; never returns."""
        try:
            self._control.detach()
            job_fd, log_fd = (fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH_FD) for fd in (job_fd, log_fd))
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
            os.dup2(job_fd, 3)
            os.closerange(4, 1 << 20)
            server = sys.modules["patchbay_worker.sandbox.job.server"]
            server.run_job(os.getppid())
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(Exception):
                sys.stderr.flush()
            os._exit(1)

    def _reap(self, pidfd: int) -> None:
        child = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        _, status, usage = os.wait4(child.pid, 0)
        with suppress(OSError):  # the worker may have closed its end
            os.write(child.status_fd, STATUS.pack(status, usage.ru_maxrss))
        os.close(child.status_fd)
        os.close(pidfd)
