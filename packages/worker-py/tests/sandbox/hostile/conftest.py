"""A pool per plan, started once; a job that does its work beside every attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.lockdown.plan import Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.settings import SandboxSettings

from ..support import edit, run

PoolOf = Callable[[Plan], SandboxPool]


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


def start(pool: SandboxPool, body: str) -> SandboxJob:
    job = pool.acquire()
    job.init(seed=0, sources=[EditSource("attack", edit(body))])
    return job


def said(pool: SandboxPool, body: str) -> object:
    """What the body of an edit leaves in `save_ctx.said`: an exception that it does not catch is its name."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    caught = f"try:\n{lines}\nexcept BaseException as problem:\n    save_ctx.said = type(problem).__name__"
    with start(pool, f"import ctypes, os, socket\n{caught}\nreturn inputs") as job:
        run(job)
        return job.collect(modules=False).save_ctx["said"]
