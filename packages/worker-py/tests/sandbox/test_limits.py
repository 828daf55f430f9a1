"""Time, memory, calls and output are bounded, whatever the edit does."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch

from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.pool import SandboxPool

from .conftest import StartJob
from .support import edit, refused, run, wait_for_end

SMALL = SandboxLimits(memory_bytes=256 << 20)


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "x = torch.ones(2000, 2000)\nwhile True: x = x @ x",
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "print('flood' * 1000)\nwhile True: print('flood' * 1000)",
    ],
    ids=["python", "sleep", "c-code", "signals-ignored", "catches-all", "prints"],
)
def test_an_endless_edit_is_killed(start: StartJob, body: str) -> None:
    job = start(edit(body))
    problem = refused("PB_EDIT_TIMEOUT", lambda: run(job, timeout_s=0.3))
    assert "0.3 s" in problem.message
    wait_for_end(job.pid)
    assert refused("PB_EDIT_TIMEOUT", lambda: run(job)) is problem, "a dead job says the same again"


def test_an_endless_import_is_killed(start: StartJob) -> None:
    refused("PB_EDIT_TIMEOUT", lambda: start("while True: pass", limits=SandboxLimits(init_timeout_s=0.3)))


def test_the_calls_of_a_job_share_one_budget(start: StartJob) -> None:
    limits = SandboxLimits(job_timeout_s=2)
    job = start(edit("import time; time.sleep(0.6)\nreturn inputs"), limits=limits)

    def many() -> None:
        for _ in range(10):
            run(job)

    assert "2 s" in refused("PB_EDIT_TIMEOUT", many).message
    assert job.edit_calls < 10


@pytest.mark.parametrize(
    "body",
    [
        "torch.empty(5_000_000_000)",
        "torch.ones(1 << 28)",
        "bytearray(20 << 30)",
        "np.ones((1 << 28,))",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "x = []\nwhile True: x.append(torch.ones(1 << 18))",
    ],
)
def test_too_much_memory_is_refused_and_the_worker_lives(start: StartJob, body: str) -> None:
    problem = refused("PB_EDIT_MEMORY", lambda: run(start(edit(body), limits=SMALL)))
    assert str(SMALL.memory_bytes) in problem.message
    assert run(start(edit("return inputs")), torch.ones(2)).sum() == 2


def test_hoarding_over_many_calls_ends_at_the_limit(start: StartJob) -> None:
    job = start(edit("save_ctx.setdefault('x', []).append(inputs)\nreturn inputs"), limits=SMALL)

    def many() -> None:
        for _ in range(400):
            run(job, torch.zeros(1 << 18))

    refused("PB_EDIT_MEMORY", many)
    assert 100 < job.edit_calls < 300, "about 256 tensors of 1 MiB fit"


def test_memory_within_the_limit_is_given(start: StartJob) -> None:
    got = run(start(edit("x = torch.ones(40 << 20)\nreturn inputs + x[:2]"), limits=SMALL), torch.ones(2))
    assert got.sum() == 4


def test_edits_are_counted(start: StartJob) -> None:
    job = start(edit("return inputs"), limits=SandboxLimits(edit_calls=2))
    run(job)
    run(job)
    refused("PB_LIMIT_EXCEEDED", lambda: run(job))
    assert job.edit_calls == 2
    assert job.edit_seconds > 0


def test_prints_are_collected_and_cut(start: StartJob) -> None:
    job = start(
        edit("import sys\nprint('shape', inputs.shape)\nprint('warned', file=sys.stderr)\nreturn inputs"),
        edit("print('x' * 200_000)\nprint('after')\nreturn inputs"),
    )
    run(job)
    assert job.logs() == "shape torch.Size([1, 3, 4])\nwarned\n"
    run(job, source=1)
    logs = job.collect().logs
    assert logs.startswith("shape")
    assert len(logs) <= SandboxLimits().log_bytes
    assert "cut" in logs[-100:]
    assert "after" not in logs


def test_a_flood_past_the_log_ends_with_a_closed_pipe(start: StartJob) -> None:
    problem = refused("PB_EDIT_FAILED", lambda: run(start(edit("import os\nwhile True: os.write(1, b'flood' * 1000)"))))
    assert "BrokenPipeError" in problem.message


def test_what_a_crashing_edit_printed_is_not_lost(start: StartJob) -> None:
    job = start(edit("print('the last words')\nimport os; os._exit(1)"))
    refused("PB_EDIT_CRASHED", lambda: run(job))
    assert job.logs() == "the last words\n"


def test_kill_from_another_thread_ends_a_pending_edit(start: StartJob) -> None:
    job = start(edit("print('in the edit')\nwhile True: pass"))

    def kill_once_inside() -> None:
        deadline = time.monotonic() + 10
        while "in the edit" not in job._process.log_text() and time.monotonic() < deadline:
            os.sched_yield()
        job.kill("the user cancelled")

    killer = threading.Thread(target=kill_once_inside)
    killer.start()
    problem = refused("PB_JOB_CANCELLED", lambda: run(job))
    killer.join()
    assert "the user cancelled" in problem.message


def test_kill_between_edits_is_seen_by_the_next(start: StartJob) -> None:
    job = start(edit("return inputs"))
    run(job)
    job.kill("shutting down")
    assert "shutting down" in refused("PB_JOB_CANCELLED", lambda: run(job)).message


def test_a_closed_job_says_so(pool: SandboxPool) -> None:
    job = pool.acquire()
    job.init(seed=0)
    job.close()
    job.close()
    refused("PB_SANDBOX_FAILED", job.collect)
