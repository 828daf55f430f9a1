"""A compiled job with what only the root needs for it: a sandbox that has read every edit. No collectives here, so
that a refusal on one rank leaves the others free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from patchbay_worker.engine.config import JobContext
from patchbay_worker.engine.job.compile_job import CompiledJob
from patchbay_worker.engine.job.inputs import Fetch
from patchbay_worker.engine.job.job_spec import Json, ModuleRequest
from patchbay_worker.errors import error
from patchbay_worker.hooks.spec import CompiledHook
from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.limits import limits_of
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sharding.expected_shape import resolve

ELEMENT_BYTES = 8  # the widest element; the arena's pages cost memory only when touched


@dataclass
class PreparedJob:
    """Holds the sandbox from prepare to the end of the job, or until another rank's refusal discards it."""

    context: JobContext
    compiled: CompiledJob
    prepare_ms: float
    sandbox: SandboxJob | None = None
    cancel_reason: str | None = None

    def cancel(self, reason: str) -> None:
        """From any thread: seen at the next agreement of the ranks; an edit under way ends at once."""
        self.cancel_reason = reason
        sandbox = self.sandbox
        if sandbox is not None:
            sandbox.kill(reason)

    def hold(self, sandbox: SandboxJob) -> SandboxJob:
        """From now on a cancel ends the sandbox too; also one that came just before."""
        self.sandbox = sandbox
        if self.cancel_reason is not None:
            sandbox.kill(self.cancel_reason)
        return sandbox

    def discard(self) -> None:
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None


def has_all_sources(compiled: CompiledJob) -> bool:
    """Whether the document itself holds every source, none lying in an artifact."""
    given = [edit.source for edit in compiled.sources]
    given += [module.options.get("source", "") for module in compiled.request.modules]
    return all(isinstance(source, str) for source in given)


def open_sandbox(prepared: PreparedJob, pool: SandboxPool, vocabulary: int) -> None:
    """Takes a process from the pool and gives it the job's modules and sources."""
    compiled, fetch = prepared.compiled, prepared.context.fetch_artifact
    request = compiled.request
    limits = limits_of(request.limits, pool.maxima)
    modules = [_module(each, fetch) for each in request.modules]
    sources = [
        EditSource(edit.name, _text(edit.source, f"{edit.path}.source", fetch), edit.entry, edit.arguments)
        for edit in compiled.sources
    ]
    job = prepared.hold(pool.acquire(limits))
    try:
        job.ensure_capacity(_largest_tensor(compiled, vocabulary))
        job.init(seed=request.seed, modules=modules, sources=sources)
        compiled.warnings.extend(f"{hook}, line {line}: {what}" for hook, line, what in job.warnings)
    except BaseException:
        prepared.discard()
        raise


def _largest_tensor(compiled: CompiledJob, vocabulary: int) -> int:
    """Bytes of the largest tensor that an edit or a loss of this job can meet."""
    sizes = [
        _bytes(hook, len(run.batch.tokens), run.batch.width)
        for run in compiled.runs
        for hook in run.hooks
        if hook.spec.source is not None
    ]
    sizes += [
        ELEMENT_BYTES * run.batch.input_ids.numel() * vocabulary
        for run in compiled.runs
        if run.loss is not None and run.loss.source is not None
    ]
    return max(sizes, default=0)


def _bytes(hook: CompiledHook, rows: int, width: int) -> int:
    site = hook.site
    if site is None:
        return 0
    dims = resolve(site.shape, rows, width)
    return ELEMENT_BYTES * math.prod(dim if isinstance(dim, int) else rows * width for dim in dims)


def _module(module: ModuleRequest, fetch: Fetch) -> ModuleSpec:
    options = dict(module.options)
    if "source" in options:
        options["source"] = _text(options["source"], f"modules.{module.name}.source", fetch)
    return ModuleSpec(name=module.name, kind=module.kind, options=options, trainable=module.trainable)


def _text(source: str | Json, path: str, fetch: Fetch) -> str:
    if isinstance(source, str):
        return source
    digest = source["artifact"]
    try:
        return fetch(digest).decode("utf-8")
    except UnicodeDecodeError as failure:
        raise error("PB_ARTIFACT_CORRUPT", path=path, artifact=digest, reason="it is not UTF-8 text") from failure
