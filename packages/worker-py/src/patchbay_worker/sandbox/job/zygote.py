"""The zygote: imports torch once, forks job processes on request, reports how they ended. Never sees user data.

Its socket carries only requests to fork, with three descriptors each: the job's socket, its log, its status pipe.
It ends when the worker does. Not here: anything that a job does after the fork (server.py).
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from shutil import rmtree
from typing import Final, NamedTuple, NoReturn

from patchbay_worker.sandbox.linux import die_with_parent
from patchbay_worker.sandbox.lockdown.job_part import PROC_FD, RULES_FD, SOCKET_FD, JobLockDown
from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Plan
from patchbay_worker.sandbox.lockdown.zygote_part import ZygoteLockDown
from patchbay_worker.sandbox.wire.control import ASK, FAILED, FORK, FORKED, MAP, READY, STATUS

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


def main(control_fd: int, worker_pid: int, plan: str) -> None:
    """Runs until the worker's end of the socket is closed."""
    die_with_parent(worker_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    lockdown = ZygoteLockDown(Plan.from_json(plan))
    preload()
    try:
        lockdown.enter(worker_pid, lambda: _ask_for_map(control))
    except LayerFailed as problem:
        control.send(FAILED + json.dumps({"layer": problem.layer, "reason": problem.reason}).encode())
        return
    control.send(READY)
    Zygote(control, lockdown).serve()


def _ask_for_map(control: socket.socket) -> None:
    control.send(MAP)
    answer = control.recv(len(FAILED) + 1000)
    if answer != MAP:
        raise LayerFailed("namespaces", answer.removeprefix(FAILED).decode("utf-8", "replace") or "the worker is gone")


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
        sys.modules["patchbay_worker.sandbox.job.server"].rehearse()
    finally:
        tempfile.tempdir = None
        rmtree(directory, ignore_errors=True)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:  # a fork would copy locks that another thread holds
        raise RuntimeError(f"the zygote has {threads} threads after its imports")
    gc.collect()
    gc.freeze()  # the collector would otherwise write to every page that jobs share


class Zygote:
    def __init__(self, control: socket.socket, lockdown: ZygoteLockDown) -> None:
        self._control = control
        self._lockdown = lockdown
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
            pid = self._lockdown.fork()
        except OSError as problem:
            self._control.send(FORKED.pack(-(problem.errno or 1)))
            for descriptor in fds:
                os.close(descriptor)
            return True
        if pid == 0:
            self._become_job(job_fd, log_fd, status_fd)
        pidfd = os.pidfd_open(pid)
        os.close(job_fd)
        os.close(log_fd)
        self._children[pidfd] = Child(pid, status_fd)
        self._poll.register(pidfd, select.POLLIN)
        socket.send_fds(self._control, [FORKED.pack(pid)], [pidfd])
        return True

    def _become_job(self, job_fd: int, log_fd: int, status_fd: int) -> None:
        """The child's half: its own descriptors and nothing else, then its own code; never returns."""
        try:
            self._control.detach()
            lock = self._lockdown.job
            lock.begin()
            if lock.plan.has("namespaces"):
                # This is the first process of its namespace, which the kernel shields from signals: the job is another.
                job = os.fork()
                if job:
                    lock.lock_init()
                    _wait_for(job, status_fd)
            _keep_descriptors(job_fd, log_fd, lock)
            server = sys.modules["patchbay_worker.sandbox.job.server"]
            server.run_job(lock)
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
        if not self._lockdown.job.plan.has("namespaces"):  # else it was the job's init, which has reported itself
            _report(child.status_fd, status, usage)
        os.close(child.status_fd)
        os.close(pidfd)


def _report(status_fd: int, status: int, usage: resource.struct_rusage) -> None:
    with suppress(OSError):  # the worker may have closed its end
        os.write(status_fd, STATUS.pack(status, round((usage.ru_utime + usage.ru_stime) * 1e6)))


def _wait_for(job: int, status_fd: int) -> NoReturn:
    """The life of a job's init: says how the job ended; with it end all processes of its namespace."""
    signal.signal(ASK, lambda *_: os.kill(job, ASK))  # the worker can reach this process alone
    kept = fcntl.fcntl(status_fd, fcntl.F_DUPFD, HIGH_FD)
    os.closerange(0, HIGH_FD)
    os.closerange(kept + 1, 1 << 20)
    os.closerange(HIGH_FD, kept)
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == job:
            _report(kept, status, usage)
            os._exit(0)


def _keep_descriptors(job_fd: int, log_fd: int, lock: JobLockDown) -> None:
    """Moves what a job may have to its place and closes all else."""
    wanted = {1: log_fd, 2: log_fd, SOCKET_FD: job_fd, PROC_FD: lock.proc}
    if lock.readable is not None:
        wanted[RULES_FD] = lock.readable
    high = {place: fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH_FD) for place, fd in wanted.items()}
    for place, fd in high.items():
        os.dup2(fd, place, inheritable=False)
    os.closerange(max(high) + 1, 1 << 20)
    lock.proc = PROC_FD
    lock.readable = RULES_FD if lock.readable is not None else None
