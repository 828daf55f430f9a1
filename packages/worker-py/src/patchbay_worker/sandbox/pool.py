"""Keeps a zygote and a few job processes ready, so that a job starts at once. Each process serves one job, ever.

Not here: what a job does (client.py). The pool's own thread starts the zygote and lives as long as the pool, since the
kernel ends the zygote with the thread that started it; so nothing outlives a killed worker.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.cgroup.folders import WorkerCgroup
from patchbay_worker.sandbox.client import SandboxJob
from patchbay_worker.sandbox.job_process import JobProcess
from patchbay_worker.sandbox.level.choose import Choice, cgroup_of, choose
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.linux import keep_large_blocks
from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Level
from patchbay_worker.sandbox.settings import SandboxSettings
from patchbay_worker.sandbox.zygote_process import START_S, ZygoteProcess

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
JOIN_S: Final = 30.0
SWEEP_S: Final = 0.05


class SandboxPool:
    """`start` returns at once; `acquire` waits for the first process, about 2 s after a cold start."""

    def __init__(self, size: int = 2, settings: SandboxSettings | None = None) -> None:
        self._size = size
        self._settings = settings or SandboxSettings.from_environment()
        self._choice = Choice("trusted", [{"name": "self-test", "ok": False, "reason": "it has not ended yet"}])
        self._chosen = False
        self._cgroup: WorkerCgroup | None = None
        self._cgroup_probe: list[dict[str, Any]] = []
        self._idle: deque[JobProcess] = deque()
        self._changed = threading.Condition()
        self._failure: PatchbayError | None = None
        self._closing = False
        self._wake = -1
        self._wake_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def level(self) -> Level:
        """How strong the boundary is; shown in every result. Known once `wait_ready` has returned."""
        return self._choice.level

    @property
    def probes(self) -> list[dict[str, Any]]:
        """What the self-test has tried; those that failed say why the level is no better."""
        return [*self._choice.probes, *self._cgroup_probe]

    @property
    def maxima(self) -> Mapping[str, int]:
        """The operator's, by key of a document's `limits`."""
        return self._settings.maxima

    def start(self) -> None:
        keep_large_blocks()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="sandbox-pool", daemon=True)
        self._thread.start()

    def acquire(self, limits: SandboxLimits | None = None, timeout_s: float = START_S) -> SandboxJob:
        """A fresh job. Raises PB_SANDBOX_FAILED when there is none in time or the zygote does not start."""
        process = self._take(time.monotonic() + timeout_s)
        return SandboxJob(process, limits or SandboxLimits(), on_close=self._rouse)

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Returns once a job would start at once, or cannot start for now; the reason comes with `acquire`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._idle) or self._failure is not None or self._closing, timeout_s)

    def close(self) -> None:
        """Ends the zygote and every job, also those in use."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._rouse()
        thread.join(JOIN_S)
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1

    def __enter__(self) -> SandboxPool:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, deadline: float) -> JobProcess:
        with self._changed:
            while True:
                while self._idle:
                    process = self._idle.popleft()
                    if not self._idle:
                        self._rouse()  # else at the job's end: a fork takes a core for 20 ms, which the job wants now
                    if process.alive():
                        return process
                    process.close()
                if self._closing or self._thread is None:
                    raise error("PB_SANDBOX_FAILED", reason="the sandbox pool is not running")
                if self._failure is not None:
                    raise self._failure
                if not self._changed.wait(deadline - time.monotonic()):
                    raise error("PB_SANDBOX_FAILED", reason="no job process became ready in time")

    def _rouse(self) -> None:
        """Makes the pool's thread look again: refill, or end."""
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        self._cgroup, told = cgroup_of(self._settings)
        self._cgroup_probe = [told]
        try:
            self._keep_going()
        finally:
            if self._cgroup is not None:
                self._cgroup.close()

    def _keep_going(self) -> None:
        """One zygote after another; with growing pauses and a reported reason while they give no process at all."""
        pause = FIRST_RETRY_S
        while not self._closing:
            zygote = None
            try:
                zygote = self._next_zygote()
                if zygote is None:
                    return
                self._serve(zygote)
            except Exception as problem:  # also a bug here: it must not leave acquire() waiting
                if zygote is None or not zygote.forks:
                    self._report(problem)
            finally:
                self._drop_idle()
                if zygote is not None:
                    zygote.close()
            if zygote is not None and zygote.forks:
                pause = FIRST_RETRY_S
            elif not self._closing:
                _sleep(self._wake, pause)
                pause = min(LAST_RETRY_S, pause * 2)

    def _next_zygote(self) -> ZygoteProcess | None:
        """One that is ready. The first decides the level, which later ones must reach; None when edits are refused."""
        if not self._chosen and self._settings.plan is None:
            self._choice = choose(self._settings, self._cgroup)
            self._chosen = True
            if self._choice.refusal is not None:
                self._report(self._choice.refusal)
            return self._choice.zygote
        plan = self._settings.plan or self._choice.plan
        zygote = ZygoteProcess(plan, self._cgroup)
        try:
            zygote.wait_ready()
        except LayerFailed as problem:
            zygote.close()
            raise error("PB_SANDBOX_FAILED", reason=f"the level {plan.level} is lost: {problem}") from problem
        except BaseException:
            zygote.close()
            raise
        if self._settings.plan is not None:
            self._choice = Choice(plan.level)
        return zygote

    def _serve(self, zygote: ZygoteProcess) -> None:
        """Refills until the zygote ends or the pool closes."""
        poll = select.poll()
        poll.register(zygote, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closing:
            while len(self._idle) < self._size and not self._closing:
                process = zygote.fork()
                process.make_arena(SandboxLimits().arena_bytes)
                with self._changed:
                    self._idle.append(process)
                    self._failure = None
                    self._changed.notify_all()
            swept = self._cgroup is None or self._cgroup.sweep()
            ready = {fd for fd, _ in poll.poll(None if swept else SWEEP_S * 1000)}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if zygote.fileno() in ready:
                return

    def _report(self, problem: Exception) -> None:
        if not isinstance(problem, PatchbayError):
            problem = error("PB_SANDBOX_FAILED", reason=f"{type(problem).__name__}: {problem}")
        with self._changed:
            self._failure = problem
            self._changed.notify_all()

    def _drop_idle(self) -> None:
        with self._changed:
            while self._idle:
                self._idle.popleft().close()


def _sleep(wake: int, seconds: float) -> None:
    """Waits, but not once the pool closes."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.poll(seconds * 1000)
