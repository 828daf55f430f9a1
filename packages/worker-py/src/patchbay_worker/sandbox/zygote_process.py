"""Starts the zygote and asks it for job processes. Not here: keeping jobs ready (pool.py), what the zygote does.

The zygote is exec'd, never forked from the worker: a worker's memory holds weights and other users' activations, and
its threads hold locks. `os.environ.clear()` would leave secrets on the stack; an environment given to exec does not.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch

import patchbay_worker
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.cgroup.folders import WorkerCgroup
from patchbay_worker.sandbox.job_process import JobProcess
from patchbay_worker.sandbox.linux import MALLOC_ENV
from patchbay_worker.sandbox.lockdown.namespaces import write_full_map
from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Plan
from patchbay_worker.sandbox.wire.control import FAILED, FORK, FORKED, MAP, READY
from patchbay_worker.sandbox.wire.message import HELLO

START_S: Final = 60.0
"""Importing torch takes 1-2 s of one core; several workers may start at once on few cores."""
SAID_BYTES: Final = 4096
FORK_S: Final = 15.0
END_S: Final = 5.0
BOOT: Final = (
    "import sys; sys.path += sys.argv[4:]; "
    "from patchbay_worker.sandbox.job.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
)
PYTHON: Final = (sys.executable, "-s", "-P", "-B", "-c", BOOT)
ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # equal documents give equal results, also where an edit walks a set
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    **MALLOC_ENV,
}


class ZygoteProcess:
    """Make and use it on one thread that lives as long as it should: the zygote dies with that thread."""

    def __init__(self, plan: Plan, cgroup: WorkerCgroup | None = None) -> None:
        self._plan = plan
        self._cgroup = cgroup
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = os.memfd_create("patchbay-zygote-stderr")
        try:
            self._process = subprocess.Popen(
                [*PYTHON, str(theirs.fileno()), str(os.getpid()), plan.to_json(), *_import_roots()],
                env=ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the terminal is the worker's business
            )
        except OSError as problem:
            self._control.close()
            os.close(self._errors)
            raise error("PB_SANDBOX_FAILED", reason=f"its zygote cannot be started: {problem}") from problem
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.forks = 0

    def fileno(self) -> int:
        """Readable when the zygote has ended."""
        return self._control.fileno()

    def wait_ready(self) -> None:
        """Raises LayerFailed when this machine does not give what the plan asks for."""
        said, _ = self._receive(START_S, SAID_BYTES)
        if said == MAP:
            self._control.send(self._write_map())
            said, _ = self._receive(START_S, SAID_BYTES)
        if said.startswith(FAILED):
            raise LayerFailed(**json.loads(said.removeprefix(FAILED)))
        if said != READY:
            raise self._failure("its zygote did not start")

    def _write_map(self) -> bytes:
        try:
            write_full_map(self.pid)
        except OSError as problem:
            return FAILED + str(problem).encode()
        return MAP

    def fork(self) -> JobProcess:
        """A job process that has done its set-up and waits for START."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        log_read, log_write = os.pipe2(os.O_CLOEXEC)
        status_read, status_write = os.pipe2(os.O_CLOEXEC)
        pid = 0
        fds: list[int] = []
        try:
            socket.send_fds(self._control, [FORK], [theirs.fileno(), log_write, status_write])
            data, fds = self._receive(FORK_S, FORKED.size)
            pid = FORKED.unpack(data)[0] if len(data) == FORKED.size else 0
        except OSError:
            pass
        finally:
            theirs.close()
            os.close(log_write)
            os.close(status_write)
        if pid <= 0 or len(fds) != 1:
            ours.close()
            os.close(log_read)
            os.close(status_read)
            raise self._failure(f"no job process: {os.strerror(-pid)}" if pid < 0 else "its zygote ended")
        job = JobProcess(pid, fds[0], ours, log_read, status_read)
        if not _wait(ours, FORK_S) or ours.recv(len(HELLO) + 1) != HELLO:
            job.drain_log(4096)
            job.close()
            raise self._failure(f"a job process did not come up: {job.log_text()[-500:]}")
        try:
            self._enclose(job)
        except OSError as problem:
            job.close()
            raise self._failure(f"a job process could not be moved into its cgroup: {problem}") from problem
        self.forks += 1
        return job

    def _enclose(self, job: JobProcess) -> None:
        """Gives a job its cgroup, before it hears a word of a user."""
        if self._cgroup is None:
            return
        pid = job.pid
        if self._plan.has("namespaces"):  # its init stays outside, to tell how it ended
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))
        job.cgroup = self._cgroup.job(pid)

    def _receive(self, timeout_s: float, size: int) -> tuple[bytes, list[int]]:
        if not _wait(self._control, timeout_s):
            return b"", []
        data, fds, _, _ = socket.recv_fds(self._control, size, 1)
        return data, fds

    def _failure(self, reason: str) -> PatchbayError:
        said = os.pread(self._errors, 1 << 20, 0)[-1000:].decode("utf-8", "replace").strip()
        return error("PB_SANDBOX_FAILED", reason=f"{reason}; it said: {said}" if said else reason)

    def close(self) -> None:
        """Ends the zygote and with it, by their parent-death signal, all its jobs."""
        self._control.close()
        self._process.kill()
        self._process.wait(END_S)
        os.close(self._errors)


def _wait(sock: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _import_roots() -> list[str]:
    """Where the zygote finds this package and torch if the interpreter's own path does not say so."""
    packages = (str(patchbay_worker.__file__), str(torch.__file__))
    return list(dict.fromkeys(str(Path(file).parents[1]) for file in packages))
