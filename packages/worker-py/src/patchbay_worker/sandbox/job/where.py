"""Says which line of user code runs, when the worker asks before it kills: the interpreter's own handler writes the
stack to the log, also where the code never comes back to Python. User code may undo it; then nothing is said.

Not here: reading it (sandbox/where.py).
"""

from __future__ import annotations

import faulthandler
import os
import signal

from patchbay_worker.sandbox.wire.control import ASK


def answer_on(fd: int) -> None:
    """In the job."""
    faulthandler.register(ASK, file=fd, all_threads=False)


def pass_on_to(job: int) -> None:
    """In a job's init, which is what the worker can reach."""
    signal.signal(ASK, lambda *_: os.kill(job, ASK))
