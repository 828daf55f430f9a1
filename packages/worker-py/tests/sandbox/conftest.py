"""One pool for all sandbox tests: each test gets a fresh single-use process from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.pool import SandboxPool

StartJob = Callable[..., SandboxJob]


@pytest.fixture(scope="session")
def pool() -> Iterator[SandboxPool]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the job, so that numbers are equal to the last bit
    with SandboxPool(size=1) as started:
        yield started
    torch.set_num_threads(threads)


@pytest.fixture
def start(pool: SandboxPool) -> Iterator[StartJob]:
    """start(source, ...) -> an initialised job; every job is closed at the end of the test."""
    jobs: list[SandboxJob] = []

    def start_job(
        *sources: str,
        modules: Sequence[ModuleSpec] = (),
        limits: SandboxLimits | None = None,
        seed: int = 0,
        entry: str = "edit",
        capacity: int | None = None,
    ) -> SandboxJob:
        job = pool.acquire(limits)
        jobs.append(job)
        if capacity is not None:
            job.ensure_capacity(capacity)
        named = [EditSource(f"hook-{i}", source, entry) for i, source in enumerate(sources)]
        job.init(seed=seed, modules=modules, sources=named)
        return job

    yield start_job
    for job in jobs:
        job.close()
