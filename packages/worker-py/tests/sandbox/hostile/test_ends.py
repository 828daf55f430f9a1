"""A job that ends in an odd way, or will not end: the reason is told, the fault is the edit's and not the machine's.

`PB_SANDBOX_FAILED` would be wrong for all of these: it is retried and blames the operator.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox import job_process
from patchbay_worker.sandbox.lockdown.plan import Level, Plan

from ..support import run
from .conftest import LEVELS, PoolOf, Watch, limits_for, start

LOOP = "while True: pass"
SLEEP = "time.sleep(100)"

# body, code, what the message says
ENDS: dict[str, tuple[str, str, str]] = {
    "a real-time signal": ("os.kill(os.getpid(), 40)", "PB_EDIT_CRASHED", "signal 40"),
    "the last real-time signal": ("os.kill(os.getpid(), 64)", "PB_EDIT_CRASHED", "SIGRTMAX"),
    "it stops itself": (f"os.kill(os.getpid(), signal.SIGSTOP)\n{SLEEP}", "PB_EDIT_TIMEOUT", "0.3 s"),
    "it takes every signal": (
        f"[signal.signal(n, lambda *_: None) for n in range(1, 65) if n not in (9, 19, 32, 33)]\n{LOOP}",
        "PB_EDIT_TIMEOUT",
        "0.3 s",
    ),
    "it swallows every exception": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "PB_EDIT_TIMEOUT",
        "0.3 s",
    ),
    "an exception set from outside": (
        "me = ctypes.c_ulong(threading.get_ident())\n"
        "ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(KeyboardInterrupt))\n"
        "for _ in range(1000): pass\nreturn inputs",
        "PB_EDIT_FAILED",
        "KeyboardInterrupt",
    ),
    "its first thread ends": (
        f"threading.Thread(target=lambda: {SLEEP}).start()\nctypes.CDLL(None).syscall(60, 0)",
        "PB_EDIT_TIMEOUT",
        "0.3 s",
    ),
    "it closes the connection and goes on": (f"os.close(3)\n{LOOP}", "PB_EDIT_CRASHED", "closed its connection"),
    "an empty packet": (f"os.write(3, b'')\n{SLEEP}", "PB_EDIT_CRASHED", "closed its connection"),
    "it closes everything": ("os.closerange(0, 64)\nreturn inputs", "PB_EDIT_CRASHED", "status 1"),
    "it puts the log over the connection": ("os.dup2(1, 3)\nreturn inputs", "PB_EDIT_CRASHED", "ended"),
    "it reads its requests away": (
        f"import threading\nthreading.Thread(target=lambda: os.read(3, 99999)).start()\n{SLEEP}",
        "PB_EDIT_TIMEOUT",
        "0.3 s",
    ),
    "a flood of packets": ("while True: os.write(3, b'x' * 1000)", "PB_EDIT_CRASHED", "bad reply"),
    "a flood on the log": ("while True: os.write(2, b'x' * 65536)", "PB_EDIT_FAILED", "BrokenPipe"),
    "a huge print": (f"print('x' * 50_000_000)\n{LOOP}", "PB_EDIT_TIMEOUT", "0.3 s"),
    "a write past its memory": ("ctypes.memset(1, 0, 1)", "PB_EDIT_CRASHED", "SIGSEGV"),
    "its stack runs over": (
        "f = ctypes.CFUNCTYPE(None)\ng = f(lambda: g())\nsys.setrecursionlimit(10**9)\ng()",
        "PB_EDIT_CRASHED",
        "SIGSEGV",
    ),
    "32-bit calls": (
        "code = mmap.mmap(-1, 4096, prot=7)\ncode.write(bytes.fromhex('b814000000cd80c3'))  # int 0x80\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()\nreturn inputs",
        "PB_EDIT_BLOCKED",
        "SIGSYS",
    ),
    "huge pages": ("mmap.mmap(-1, 2 << 20, flags=0x22 | 0x40000)\nreturn inputs", "PB_EDIT_BLOCKED", "not permitted"),
    "memory in common": (
        "kept = [mmap.mmap(-1, 1 << 30) for _ in range(99)]\nreturn inputs",
        "PB_EDIT_MEMORY",
        "bytes of memory",
    ),
}
IMPORTS = "import ctypes, mmap, os, signal, sys, threading, time\n"


@pytest.mark.parametrize("level", LEVELS)
def test_an_odd_end_is_the_fault_of_the_edit(pool_of: PoolOf, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "EXIT_WAIT_S", 0.5)
    pool = pool_of(Plan(level))
    wrong = {}
    with Watch(pool):
        for name, (body, code, says) in ENDS.items():
            with start(pool, IMPORTS + body, replace(limits_for(code), init_timeout_s=30.0)) as job:
                try:
                    wrong[name] = f"it came back: {run(job)}"
                except PatchbayError as problem:
                    if problem.code != code or says not in problem.message:
                        wrong[name] = str(problem)
                if code not in ("PB_EDIT_FAILED", "PB_EDIT_BLOCKED", "PB_EDIT_MEMORY"):
                    assert job.ended(30), f"{name}: its process is gone"
    assert wrong == {}


THREADS = """
import threading
threading.stack_size(32768)
wait, save_ctx.said = threading.Event(), 0
try:
    for _ in range(2000):
        threading.Thread(target=wait.wait, daemon=True).start()
        save_ctx.said += 1
except RuntimeError:
    pass
wait.set()
return inputs
"""


@pytest.mark.parametrize("level", LEVELS)
def test_threads_are_few_at_every_level(pool_of: PoolOf, level: Level) -> None:
    pool = pool_of(Plan(level))
    with Watch(pool), start(pool, THREADS) as job:
        run(job)
        # Without a namespace the limit is of the uid: a few more where jobs of other tests are just ending.
        assert 8 <= job.collect(modules=False).save_ctx["said"] <= 64
    with start(pool_of(Plan(level, frozenset(("limits",)))), THREADS) as job:
        run(job)
        assert job.collect(modules=False).save_ctx["said"] == 2000, "the limit is what holds them"
        job.kill("it has shown it")
        assert job.ended(30), "threads that are still ending would count for the next level"
