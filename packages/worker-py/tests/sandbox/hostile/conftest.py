"""A pool per plan, started once; a job that does its work beside every attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.plan import Level, Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.settings import SandboxSettings

from ..support import edit, run

PoolOf = Callable[[Plan], SandboxPool]
LEVELS: tuple[Level, ...] = ("isolated", "confined", "filtered")


@pytest.fixture(scope="package")
def pool_of() -> Iterator[PoolOf]:
    pools: dict[Plan, SandboxPool] = {}

    def get(plan: Plan) -> SandboxPool:
        if plan not in pools:
            pools[plan] = SandboxPool(size=1, settings=SandboxSettings(plan=plan))
            pools[plan].start()
        return pools[plan]

    yield get
    for pool in pools.values():
        pool.close()


def start(pool: SandboxPool, body: str, limits: SandboxLimits | None = None) -> SandboxJob:
    job = pool.acquire(limits)
    job.init(seed=0, sources=[EditSource("attack", edit(body))])
    return job


def said(pool: SandboxPool, body: str) -> object:
    """What the body of an edit leaves in `save_ctx.said`: an exception that it does not catch is its name."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    caught = f"try:\n{lines}\nexcept BaseException as problem:\n    save_ctx.said = type(problem).__name__"
    with start(pool, f"import ctypes, os, socket\n{caught}\nreturn inputs") as job:
        run(job)
        return job.collect(modules=False).save_ctx["said"]


def limits_for(code: str | None, seconds: float = 0.3) -> SandboxLimits:
    """Little time where running out of it is what is expected, so that no other outcome hangs on a busy machine."""
    given = seconds if code == "PB_EDIT_TIMEOUT" else 30.0
    return SandboxLimits(edit_timeout_s=given, init_timeout_s=given, save_ctx_bytes=1 << 20)


class Watch:
    """A sibling that works during the attack; afterwards it, the zygote and a next job are asked again."""

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool
        self._sibling = start(pool, "save_ctx.n = save_ctx.get('n', 0) + 1\nreturn inputs + save_ctx.n")
        self._zygote = parent_of(self._sibling)

    def __enter__(self) -> None:
        run(self._sibling, torch.zeros(1))

    def __exit__(self, kind: object, *_: object) -> None:
        with self._sibling as sibling:
            if kind is None:
                assert run(sibling, torch.zeros(1)).item() == 2, "the sibling goes on"
                with start(self._pool, "return inputs * 3") as following:
                    assert run(following, torch.ones(1)).item() == 3, "the next job works"
                    assert parent_of(following) == self._zygote, "the zygote lives"


def parent_of(job: SandboxJob) -> int:
    return int(Path(f"/proc/{job.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
