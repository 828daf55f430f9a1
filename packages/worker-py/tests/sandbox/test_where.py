"""A killed edit tells its line, also out of native code; and when it will not, it is killed all the same."""

from __future__ import annotations

import pytest
import torch

from patchbay_worker.sandbox import job_process
from patchbay_worker.sandbox.client import EditSource
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.where import HEAD, LAST, stack_in

from .support import edit, refused, run

BRIEF = SandboxLimits(edit_timeout_s=1.0)
LINES = {
    "a loop": ("x = 1\nwhile True: pass", 3),
    "sleep": ("import time\n\ntime.sleep(100)", 4),
    "native code": ("x = torch.ones(4000, 4000)\nwhile True:\n    x @ x", 4),
    "a function of its own": ("def f():\n    while True: pass\nf()", 3),
    "exceptions swallowed": ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", 4),
    "prints meanwhile": ("while True: print('x')", 2),
}
SILENT = {
    "stopped": "import os\nos.kill(os.getpid(), 19)",
    "the handler undone": "import faulthandler, signal\nfaulthandler.unregister(signal.SIGUSR2)\nwhile True: pass",
    "the signal blocked": "import signal\nsignal.pthread_sigmask(0, [signal.SIGUSR2])\nwhile True: pass",
    "the log closed": "import os\nos.close(1)\nos.close(2)\nwhile True: pass",
}


@pytest.mark.parametrize("name", LINES)
def test_a_timeout_names_the_line(pool: SandboxPool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "WHERE_S", 10.0)  # a busy machine takes its time
    body, line = LINES[name]
    with pool.acquire(BRIEF) as job:
        job.init(seed=0, sources=[EditSource("hook", edit(body))])
        problem = refused("PB_EDIT_TIMEOUT", lambda: run(job))
        assert problem.remote is not None
        assert problem.remote["line"] == line
        assert '"<hook hook>", line' in problem.remote["traceback"]
        assert "Stack" not in job.logs()
        assert "patchbay_worker" not in str(problem.to_json())
    with pool.acquire() as job:
        job.init(seed=0, sources=[EditSource("next", edit("return inputs"))])
        assert run(job, torch.ones(1)).item() == 1


@pytest.mark.parametrize("name", SILENT)
def test_one_that_will_not_tell_is_killed_all_the_same(pool: SandboxPool, name: str) -> None:
    with pool.acquire(BRIEF) as job:
        job.init(seed=0, sources=[EditSource("hook", edit(SILENT[name]))])
        assert refused("PB_EDIT_TIMEOUT", lambda: run(job)).remote is None
        assert job.ended()


def test_a_forged_stack_is_bounded_and_plain() -> None:
    frame = b'  File "<hook \x1b[2J\xff>", line 7 in f\n'
    found = stack_in(b"printed before\n" + HEAD + frame * 5000 + LAST, 0)
    assert found is not None
    assert found.start == len("printed before\n")
    assert found.remote is not None
    assert found.remote["line"] == 7
    assert len(found.remote["traceback"]) <= 4000
    assert "\x1b" not in found.remote["traceback"]
    assert stack_in(HEAD + b'  File "/usr/x.py", line 3 in g\n' + LAST, 0) == (0, True, None)
    assert stack_in(b"nothing", 0) is None
