"""Life cycle of zygote and job processes: one job each, a dead zygote is replaced, nothing outlives its worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from patchbay_worker.sandbox import zygote_process
from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.lockdown.plan import LEVELS
from patchbay_worker.sandbox.pool import SandboxPool

from .conftest import StartJob
from .support import edit, refused, run, wait_for_end

IDENTITY = [EditSource("same", edit("return inputs"))]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_process_serves_one_job(pool: SandboxPool) -> None:
    with pool.acquire() as first, pool.acquire() as second:
        pids = {first.pid, second.pid}
    with pool.acquire() as third:
        assert third.pid not in pids
        assert len(pids) == 2


def test_jobs_are_separate(start: StartJob) -> None:
    source = edit("import torch\ntorch.leak = getattr(torch, 'leak', 0) + 1\nreturn inputs + torch.leak")
    for job in (start(source), start(source)):
        assert run(job, torch.zeros(1)).item() == 1


def test_two_jobs_at_once(start: StartJob) -> None:
    jobs = [start(edit(f"return inputs + {i}")) for i in range(3)]
    for _ in range(3):
        assert [run(job, torch.zeros(1)).item() for job in jobs] == [0, 1, 2]


def test_closing_ends_the_process(pool: SandboxPool) -> None:
    job = pool.acquire()
    job.init(seed=0, sources=IDENTITY)
    job.close()
    wait_for_end(job.pid)


STACK = """
import ctypes, os
save_ctx.env = dict(os.environ)
libc = ctypes.CDLL(None)
first = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
save_ctx.raw = []
index = 0
while first[index]:
    save_ctx.raw.append(first[index].decode("utf-8", "replace"))
    index += 1
return inputs
"""


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHBAY_TOKEN", "secret-of-this-test")
    with SandboxPool(size=1) as pool, pool.acquire() as job:
        job.init(seed=0, sources=[EditSource("env", edit(STACK))])
        run(job)
        values = job.collect().save_ctx
    assert set(values["env"]) - {"TORCHINDUCTOR_CACHE_DIR"} == set(zygote_process.ENVIRONMENT)  # torch sets that one
    assert "PYTHONHASHSEED=0" in values["raw"], "what is looked at is the environment that the kernel has handed over"
    assert "secret-of-this-test" not in str(values)


DESCRIPTORS = """
import os, stat
kinds = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFREG: "file", 0: "other"}
save_ctx.open = []
for number in range(1024):
    try:
        save_ctx.open.append(kinds.get(stat.S_IFMT(os.fstat(number).st_mode), "other"))
    except OSError:
        pass
return inputs
"""


def test_a_job_has_no_descriptors_but_its_own(start: StartJob) -> None:
    job = start(edit(DESCRIPTORS))
    run(job)
    opened = job.collect().save_ctx["open"]
    assert sorted(opened) == ["device", "file", "pipe", "pipe", "socket"], "null, arena, log twice, control"


def test_a_killed_zygote_ends_its_jobs_and_is_replaced() -> None:
    with SandboxPool(size=1) as pool:
        job = pool.acquire()
        job.init(seed=0, sources=IDENTITY)
        os.kill(parent_of(job.pid), signal.SIGKILL)
        wait_for_end(job.pid)
        refused("PB_SANDBOX_FAILED", lambda: run(job))
        job.close()
        with pool.acquire() as fresh:
            fresh.init(seed=0, sources=IDENTITY)
            assert torch.equal(run(fresh, torch.ones(2)), torch.ones(2))


def test_a_job_process_that_dies_while_waiting_is_not_handed_out() -> None:
    with SandboxPool(size=1) as pool:
        with pool.acquire() as job:
            zygote = parent_of(job.pid)
        waiting = pool._idle
        with pool._changed:
            assert pool._changed.wait_for(lambda: bool(waiting), 30)
            victim = waiting[0].pid
        os.kill(victim, signal.SIGKILL)
        wait_for_end(victim)
        with pool.acquire() as job:
            assert parent_of(job.pid) == zygote
            job.init(seed=0, sources=IDENTITY)


def test_closing_the_pool_ends_everything() -> None:
    pool = SandboxPool(size=1)
    pool.start()
    job = pool.acquire()
    zygote = parent_of(job.pid)
    job.init(seed=0, sources=[EditSource("loop", edit("while True: pass"))])
    with ThreadPoolExecutor() as threads:
        pending = threads.submit(lambda: refused("PB_SANDBOX_FAILED", lambda: run(job)))
        pool.close()
        pending.result(20)
    wait_for_end(zygote)
    wait_for_end(job.pid)
    refused("PB_SANDBOX_FAILED", pool.acquire)
    job.close()


WORKER = """
import os, sys, threading
from patchbay_worker.sandbox.client import EditSource
from patchbay_worker.sandbox.pool import SandboxPool
import torch
pool = SandboxPool(size=1)
pool.start()
busy, idle = pool.acquire(), pool.acquire()
busy.init(seed=0, sources=[EditSource("loop", "def edit(a, b, c, d):\\n    while True: pass")])
idle.init(seed=0, sources=[EditSource("loop", "def edit(a, b, c, d):\\n    return b")])
print(os.getpid(), busy.pid, idle.pid, flush=True)
busy.edit(source=0, tensor=torch.ones(1), current_module={})
"""


@pytest.mark.parametrize(
    ("number", "level"), [(signal.SIGKILL, "auto"), (signal.SIGTERM, "auto"), (signal.SIGKILL, "confined")]
)
def test_nothing_outlives_a_killed_worker(number: signal.Signals, level: str) -> None:
    environment = {**os.environ, "PATCHBAY_SANDBOX_LEVEL": level}
    with subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pids = [int(word) for word in worker.stdout.readline().split()]
        zygote = parent_of(pids[1])
        os.kill(pids[0], number)
        worker.wait(20)
        for pid in (*pids[1:], zygote):
            wait_for_end(pid)


def test_many_threads_in_the_worker_do_no_harm() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: stop.wait(60)) for _ in range(40)]
    for thread in threads:
        thread.start()
    try:
        with SandboxPool(size=1) as pool, pool.acquire() as job:
            job.init(seed=0, sources=IDENTITY)
            assert torch.equal(run(job, torch.ones(2)), torch.ones(2))
    finally:
        stop.set()


def test_a_pool_started_by_a_thread_that_ended_goes_on() -> None:
    # The kernel's parent-death signal follows the thread that forked, which therefore must be the pool's own.
    pool = SandboxPool(size=1)
    thread = threading.Thread(target=pool.start)
    thread.start()
    thread.join()
    with pool.acquire() as job:
        job.init(seed=0, sources=IDENTITY)
        assert torch.equal(run(job, torch.ones(2)), torch.ones(2))
    pool.close()


def test_a_zygote_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_process, "PYTHON", (sys.executable, "-c", "raise SystemExit('no torch here')"))
    with SandboxPool(size=1) as pool:
        problem = refused("PB_SANDBOX_FAILED", pool.acquire)
        assert problem.retryable
        assert "no torch here" in problem.message


def test_the_level_and_every_probe_are_told(pool: SandboxPool) -> None:
    pool.wait_ready()
    assert pool.level in LEVELS
    assert all(probe["ok"] or probe["reason"] for probe in pool.probes)
    assert len([probe for probe in pool.probes if probe["ok"] and probe["level"] == pool.level]) >= 15


def test_a_stranger_job_process_is_refused_after_close(pool: SandboxPool) -> None:
    job: SandboxJob = pool.acquire()
    job.close()
    refused("PB_SANDBOX_FAILED", lambda: job.init(seed=0))
