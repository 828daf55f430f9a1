"""A job's cgroup: all kinds of memory and all threads count, and it is gone with the job, whatever ended its worker.

Where this machine gives none (cgroup version 1, nothing delegated), the last test runs the others under a kernel of
their own: User Mode Linux, from Debian's package of that name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from patchbay_worker.sandbox import zygote_process
from patchbay_worker.sandbox.cgroup.folders import PREFIX, SLACK_BYTES, THREADS, WorkerCgroup
from patchbay_worker.sandbox.cgroup.place import NoCgroup, find_place
from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.landlock import abi
from patchbay_worker.sandbox.lockdown.plan import Layer, Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.settings import SandboxSettings

from ..support import edit, refused, run, wait_for_end

LIMITS = SandboxLimits(memory_bytes=32 << 20, arena_bytes=4 << 20, edit_timeout_s=60)
KERNEL = shutil.which("linux.uml")
HAS_LANDLOCK = abi() > 0
PATIENCE_S = 300.0
if "User Mode Linux" in Path("/proc/cpuinfo").read_text():  # importing torch takes long there
    setattr(zygote_process, "START_S", PATIENCE_S)  # noqa: B010 # it is final elsewhere


def place() -> Path | None:
    try:
        return find_place("")
    except NoCgroup:
        return None


needs_cgroup = pytest.mark.skipif(place() is None, reason="this machine delegates no cgroup version 2")


def plan(*without: Layer) -> Plan:
    """Isolated, as far as the kernel goes; `without` limits, which would stop the same things before."""
    return Plan("isolated", frozenset(without) | (frozenset() if HAS_LANDLOCK else frozenset(("landlock",))))


@pytest.fixture(scope="module")
def unlimited() -> Iterator[SandboxPool]:
    with SandboxPool(size=1, settings=SandboxSettings(plan=plan("limits"))) as pool:
        yield pool


def started(pool: SandboxPool, body: str) -> SandboxJob:
    job = pool.acquire(LIMITS, PATIENCE_S)
    job.init(seed=0, sources=[EditSource("hook", edit(body))])
    return job


def cgroup_of(pid: int) -> Path:
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path("/sys/fs/cgroup") / line[3:].strip().lstrip("/")


def job_in(pid: int) -> int:
    """The job beside its init."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def wait_until_gone(folder: Path) -> None:
    for _ in range(500):
        if not folder.exists():
            return
        time.sleep(0.01)
    pytest.fail(f"{folder} is still there")


SHARED = "import mmap\nkept = mmap.mmap(-1, 700 << 20)\nfor n in range(0, len(kept), 4096): kept[n] = 1\nreturn inputs"
THREADED = """
import threading
kept = []
def take():
    for _ in range(175): kept.append(bytearray(b"x" * (1 << 20)))
each = [threading.Thread(target=take) for _ in range(4)]
for one in each: one.start()
for one in each: one.join()
return inputs
"""
TAKES = {"private": "kept = torch.ones(175 << 20)\nreturn inputs", "shared": SHARED, "in threads": THREADED}
BOMB = """
import threading
wait, save_ctx.said = threading.Event(), 0
try:
    for _ in range(60):
        threading.Thread(target=wait.wait, daemon=True).start()
        save_ctx.said += 1
except RuntimeError:
    pass
wait.set()
return inputs
"""


@needs_cgroup
@pytest.mark.parametrize("kind", TAKES)
def test_memory_of_every_kind_counts(unlimited: SandboxPool, kind: str) -> None:
    with started(unlimited, "return inputs * 3") as sibling, started(unlimited, TAKES[kind]) as job:
        problem = refused("PB_EDIT_MEMORY", lambda: run(job))
        assert str(LIMITS.memory_bytes) in problem.message
        assert job.ended(), "with all its threads"
        assert run(sibling, torch.ones(1)).item() == 3
    with started(unlimited, "return inputs * 2") as following:
        assert run(following, torch.ones(1)).item() == 2


@needs_cgroup
def test_threads_count(unlimited: SandboxPool) -> None:
    with started(unlimited, BOMB) as job:
        run(job)
        assert 8 <= job.collect(modules=False).save_ctx["said"] < THREADS


@needs_cgroup
def test_without_it_nothing_stops_the_same() -> None:
    settings = SandboxSettings(plan=plan("limits"), cgroup="off")
    with SandboxPool(size=1, settings=settings) as pool:
        pool.wait_ready()
        assert [probe["ok"] for probe in pool.probes if probe["name"] == "cgroup"] == [False]
        for body in (*TAKES.values(), BOMB):
            with started(pool, body) as job:
                run(job)
                assert job.collect(modules=False).save_ctx.get("said", 60) == 60


@needs_cgroup
def test_a_job_has_its_own_and_it_goes_with_the_job() -> None:
    with SandboxPool(size=1, settings=SandboxSettings(plan=plan())) as pool:
        with started(pool, "return inputs") as one, started(pool, "return inputs") as other:
            folders = [cgroup_of(job_in(job.pid)) for job in (one, other)]
            assert folders[0] != folders[1]
            for folder in folders:
                most = LIMITS.memory_bytes + LIMITS.arena_bytes
                assert int((folder / "memory.max").read_text()) == most + SLACK_BYTES
                assert int((folder / "pids.max").read_text()) == THREADS
                assert (folder / "memory.oom.group").read_text() == "1\n"
            assert cgroup_of(one.pid) == cgroup_of(os.getpid()), "its init tells how it ended, so it stays outside"
            assert [probe["ok"] for probe in pool.probes if probe["name"] == "cgroup"] == [True]
        for folder in folders:
            wait_until_gone(folder)
    assert not folders[0].parent.exists(), "the worker's own goes with the pool"


@needs_cgroup
def test_it_outlives_neither_a_killed_worker_nor_its_jobs() -> None:
    script = f"""
import os, threading
from {__name__} import *
pool = SandboxPool(size=1, settings=SandboxSettings(plan=plan()))
pool.start()
job = started(pool, "while True: pass")
threading.Thread(target=lambda: run(job), daemon=True).start()
print(job.pid, cgroup_of(job_in(job.pid)), flush=True)
threading.Event().wait()
"""
    root = str(Path(__file__).parents[3])
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid, folder = worker.stdout.readline().split()
        living = WorkerCgroup()  # whose start must not touch what another worker holds
        assert Path(folder).exists()
        worker.send_signal(signal.SIGKILL)
        worker.wait(20)
    wait_for_end(int(pid))
    assert Path(folder).exists(), "nobody was there to remove it"
    WorkerCgroup().close()
    assert not Path(folder).parent.exists()
    living.close()


@needs_cgroup
@pytest.mark.skipif(os.getuid() != 0, reason="root alone can hand a cgroup to another user")
def test_an_ordinary_user_to_whom_one_was_delegated() -> None:
    found = place()
    assert found is not None
    folder = found / "of-uid-1234"
    inner = folder / "worker"
    folder.mkdir()
    (folder / "cgroup.subtree_control").write_text("+memory +pids")
    inner.mkdir()
    for each in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control", inner, inner / "cgroup.procs"):
        os.chown(each, 1234, 1234)

    def enter() -> None:
        (inner / "cgroup.procs").write_text(str(os.getpid()))
        os.setgroups([])
        os.setresgid(1234, 1234, 1234)
        os.setresuid(1234, 1234, 1234)

    script = f"""
from {__name__} import *
pool = SandboxPool(size=1, settings=SandboxSettings(plan=plan("limits")))
pool.start()
with started(pool, SHARED) as job:
    print(cgroup_of(job_in(job.pid)), refused("PB_EDIT_MEMORY", lambda: run(job)).code, flush=True)
pool.close()
"""
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", script],
            cwd=str(Path(__file__).parents[3]),
            preexec_fn=enter,
            env={**os.environ, "HOME": "/"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stdout.startswith(f"{folder}/{PREFIX}"), done.stderr
        assert not list(folder.glob(f"{PREFIX}*"))
    finally:
        inner.rmdir()
        folder.rmdir()


def test_a_machine_without_one_says_so_and_goes_on() -> None:
    with pytest.raises(NoCgroup, match="switched off"):
        find_place("off")
    with pytest.raises(NoCgroup, match="has no cgroup version 2"):
        find_place("/nowhere")
    with tempfile.TemporaryDirectory() as folder, SandboxPool(size=1, settings=SandboxSettings(cgroup=folder)) as pool:
        with started(pool, "return inputs + 1") as job:
            assert run(job, torch.zeros(1)).item() == 1
        (probe,) = [probe for probe in pool.probes if probe["name"] == "cgroup"]
        assert not probe["ok"]
        assert folder in probe["reason"]
        assert probe["fix"]


INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 cg /sys/fs/cgroup
mkdir -p /dev/shm; mount -t tmpfs tmp /dev/shm
cd {folder} && {python} -m pytest {file} --deselect {file}::{own} 2>&1
echo "ended with $?"
echo o > /proc/sysrq-trigger; sleep 5
"""


@pytest.mark.skipif(place() is not None, reason="the tests above ran on this machine's own kernel")
@pytest.mark.skipif(KERNEL is None, reason="NOT RUN: a real cgroup version 2 (apt-get install user-mode-linux)")
def test_the_same_under_a_kernel_with_cgroups(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    assert KERNEL is not None
    root = Path(__file__).parents[3]
    init = tmp_path / "init"
    names = {"file": Path(__file__).relative_to(root), "own": request.node.name}
    init.write_text(INIT.format(folder=root, python=sys.executable, **names))
    init.chmod(0o755)
    machine = ["mem=3G", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "con=null", "con0=fd:0,fd:1"]
    done = subprocess.run(
        [KERNEL, *machine, "quiet", f"init={init}"],
        env={"PATH": os.environ["PATH"], "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},  # its memory is a file there
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert "ended with 0" in done.stdout, done.stdout[-5000:]
    assert "8 passed" in done.stdout, done.stdout[-2000:]
