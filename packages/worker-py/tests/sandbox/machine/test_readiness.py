"""What makes a job quick at its first word: it is roused, it has a core to itself, its memory is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.sandbox.client import SandboxJob
from patchbay_worker.sandbox.job import server
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.message import ROUSE

from ..conftest import StartJob
from ..support import FACTS, edit, run


def test_a_job_that_is_roused_does_nothing_that_anyone_sees(start: StartJob) -> None:
    body = "save_ctx.calls = save_ctx.get('calls', 0) + 1\nreturn inputs + torch.rand(inputs.shape)"
    quiet, roused = start(edit(body)), start(edit(body))
    for _ in range(3):
        for _ in range(50):
            roused.rouse()
        assert torch.equal(run(roused), run(quiet))
    assert roused.collect().save_ctx == quiet.collect().save_ctx == {"calls": 3}


def test_a_job_that_is_roused_runs_through_an_edit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    monkeypatch.setattr(server, "SOCKET_FD", theirs.fileno())
    runs: list[None] = []
    with ours, theirs:
        for each in (ROUSE, ROUSE, b"request"):
            ours.send(each)
        assert server._next(lambda: runs.append(None), 0.0) == (b"request", 0.0), "it leaves the core to others then"
        ours.send(b"request")
        assert server._next(lambda: runs.append(None), 0.0) == (b"request", server.SPIN_S), "another may follow at once"
    assert len(runs) == 2


def test_one_rouse_goes_out_for_one_request(start: StartJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start(edit("return inputs"))
    sent = watch_sends(job, monkeypatch)
    for _ in range(2):
        job.rouse()
        job.rouse()
        run(job)
    assert [data == ROUSE for data in sent] == [True, False, True, False]


def watch_sends(job: SandboxJob, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    sent: list[bytes] = []
    sock = job._channel._process.sock

    class Watched:
        def send(self, data: bytes) -> int:
            sent.append(data)
            return sock.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

    monkeypatch.setattr(job._channel._process, "sock", Watched())
    return sent


def test_what_is_done_meanwhile_may_fail_and_the_job_goes_on(start: StartJob) -> None:
    job = start(edit("return inputs * 2"))
    order: list[str] = []

    def call(tensor: Tensor, meanwhile: Callable[[], object]) -> Tensor:
        return job.edit(source=0, tensor=tensor, current_module=FACTS, meanwhile=lambda: order.append(str(meanwhile())))

    with pytest.raises(ZeroDivisionError):
        call(torch.ones(3), lambda: 1 / 0)
    assert torch.equal(call(torch.full((3,), 5.0), lambda: "once"), torch.full((3,), 10.0)), "its own reply"
    assert order == ["once"]


def test_a_job_whose_user_has_broken_torch_is_roused_all_the_same(start: StartJob) -> None:
    body = "save_ctx.seen = 1\ntorch.Tensor.untyped_storage = lambda self: 1 / 0\nreturn inputs"
    job = start("import torch\n" + edit(body))
    run(job)
    job.rouse()
    assert job.collect().save_ctx == {"seen": 1}


def test_more_rouses_than_its_socket_takes_keep_nobody_out(start: StartJob) -> None:
    job = start(edit("return inputs"))
    for _ in range(20_000):
        job.rouse()
    assert torch.equal(run(job, torch.ones(3)), torch.ones(3)), "they leave room for what counts"


def cores_of(job: SandboxJob) -> set[int]:
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    return os.sched_getaffinity(int(children[0]) if children else job.pid)


def test_a_job_keeps_off_the_core_of_who_waits_for_it_awake(start: StartJob) -> None:
    job = start(edit("return inputs"))
    job.rouse()
    mine = os.sched_getaffinity(0)
    theirs = cores_of(job)
    assert theirs < mine if len(mine) > 1 else theirs == mine
    assert len(theirs) == max(1, len(mine) - 1)
    run(job)


def test_a_job_that_is_slow_may_have_every_core(start: StartJob) -> None:
    """Who waits for it is asleep then, and the other cores may be busy."""
    job = start(edit("import time\ntime.sleep(0.2)\nreturn inputs"))
    for _ in range(2):
        job.rouse()
        run(job)
        assert cores_of(job) == os.sched_getaffinity(0)


ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch
from patchbay_worker.sandbox.client import EditSource
from patchbay_worker.sandbox.pool import SandboxPool
with SandboxPool(size=1) as pool, pool.acquire() as job:
    job.init(seed=0, sources=[EditSource("e", "def edit(a, b, c, d):\\n    return b * 2\\n")])
    for _ in range(20):
        got = job.edit(source=0, tensor=torch.ones(3), current_module={})
    print(got.tolist())
"""


def test_both_run_where_there_is_one_core() -> None:
    done = subprocess.run([sys.executable, "-c", ONE_CORE], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[2.0, 2.0, 2.0]", done.stderr


def test_an_arena_of_another_size_than_the_one_made_in_advance(start: StartJob) -> None:
    usual = SandboxLimits().arena_bytes
    for capacity in (1, usual):
        job = start(edit("return inputs * 2"), capacity=capacity)
        assert torch.equal(run(job, torch.ones(3)), torch.full((3,), 2.0))
