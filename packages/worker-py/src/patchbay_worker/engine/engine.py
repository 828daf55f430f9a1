"""One rank of a gang as the cluster drives it: load, validate, prepare, execute, cancel. Not here: who calls it.

`prepare` and `execute` belong to one fixed thread; `validate` and `cancel` may come from any.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from patchbay_worker.engine.config import EngineConfig, JobContext, JobOutput
from patchbay_worker.engine.describe import SandboxState, describe, fingerprint, max_positions
from patchbay_worker.engine.job.compile_job import CompiledJob, CompiledRun, compile_job
from patchbay_worker.engine.job.graphs import prepare_graphs
from patchbay_worker.engine.job.inputs import Fetch, InputLimits
from patchbay_worker.engine.job.job_spec import ParameterRequest, read_job
from patchbay_worker.engine.job.prepare import PreparedJob, has_all_sources, open_sandbox
from patchbay_worker.engine.job.results import JobParts, assemble
from patchbay_worker.engine.job.tokens import TokenTexts
from patchbay_worker.engine.load import load_model
from patchbay_worker.engine.load_progress import OnWeights
from patchbay_worker.engine.pipeline.edit_links import EditLinks
from patchbay_worker.engine.pipeline.stage import JobStopped
from patchbay_worker.engine.run.brake import Brake
from patchbay_worker.engine.run.parameters import gather_parameters
from patchbay_worker.engine.run.run_backward import run_backward
from patchbay_worker.engine.run.run_context import Emit, JobRun
from patchbay_worker.engine.run.run_forward import run_forward
from patchbay_worker.engine.run.run_generate import run_generate
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.engine.run.run_train import run_train
from patchbay_worker.engine.world import join_world, leave_world
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.client import SandboxJob
from patchbay_worker.sandbox.collect import SandboxResult
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sharding.mesh import check_mesh


class Engine:
    """One rank. Joins the torch world and loads its shard on construction; the same calls are made on every rank.

    Raises:
        PatchbayError: PB_MESH_UNSUPPORTED, PB_MODEL_LOAD_FAILED, PB_MEMORY, PB_NOT_DIVISIBLE, PB_NOT_SHARDABLE.

    Attributes:
        description (dict[str, Any]): architecture, mesh, dtype, fingerprint, and every module with its shapes and
            layout by hook type; the same on every rank.
    """

    description: dict[str, Any]

    def __init__(self, config: EngineConfig, on_weights: OnWeights = lambda _: None) -> None:
        """Blocks until all ranks have loaded.

        Args:
            config: this rank's part; `rank` alone differs between ranks.
            on_weights: takes the part of this rank's weights that has been read, from 0 to 1, now and then.
        """
        check_mesh(config.mesh, config.world_size)
        self._config = config
        # A job that is discarded instead of executed leaves by itself.
        self._jobs: WeakValueDictionary[str, PreparedJob] = WeakValueDictionary()
        self._pool: SandboxPool | None = None
        self._links: EditLinks | None = None
        self._world = join_world(config)
        try:
            self._load(config, on_weights)
        except BaseException:
            self.close()
            raise

    def _load(self, config: EngineConfig, on_weights: OnWeights) -> None:
        if self._world.is_root:
            self._pool = SandboxPool(size=config.sandbox_pool)
            self._pool.start()  # comes up while the weights load
        self._loaded = load_model(config, self._world, on_weights)
        self._links = EditLinks(self._world, config.master_addr)
        self._brake = Brake(self._world, self._loaded.model, self._loaded.pipeline)
        self._texts = TokenTexts(self._loaded.tokenizer)
        self._limits = InputLimits(
            model=config.name,
            vocabulary=self._loaded.text_config.vocab_size,
            positions=max_positions(self._loaded),
            pad_id=getattr(self._loaded.tokenizer, "pad_token_id", None) or 0,
            device=self._world.device,
        )
        if self._pool is not None:
            self._pool.wait_ready()
        self.description = json.loads(self._world.share_bytes(self._describe()))

    @property
    def memory(self) -> dict[str, int]:
        """What this rank's shard takes; differs between ranks.

        Returns:
            `neededBytes`, as the headers of the checkpoint say, `heldBytes`, measured, and `processBytes`.
        """
        return self._loaded.memory.to_json()

    def _describe(self) -> bytes | None:
        if self._pool is None:
            return None
        state = SandboxState(self._pool.level, self._pool.probes)
        return json.dumps(describe(self._config, self._loaded, state)).encode()

    def validate(self, document: dict[str, Any]) -> dict[str, Any]:
        """All that can be checked without running anything; artifacts are not fetched. No collectives.

        Args:
            document: a job document with its defaults, as `parse_document` gives it.

        Returns:
            `warnings`, a list of texts.

        Raises:
            PatchbayError: as `prepare`; PB_NOT_SUPPORTED for inputs that lie in artifacts.
        """
        compiled = self._compile(document, _refuse_fetch)
        prepare_graphs(compiled, None, self._maxima())
        if self._pool is not None and compiled.needs_sandbox and has_all_sources(compiled):
            # Sources are read where that is safe: in a sandbox, which is closed again.
            trial = PreparedJob(JobContext("validate", 0, document, None, _refuse_fetch), compiled, 0.0)
            open_sandbox(trial, self._pool, self._limits.vocabulary)
            trial.discard()
        return {"warnings": compiled.warnings}

    def prepare(self, job: JobContext) -> PreparedJob:
        """Compiles the job and, on the root, opens its sandbox. No collectives.

        Args:
            job: the document and where artifacts come from.

        Returns:
            What `execute` takes, once. It must be executed, or `discard` be called, or its sandbox stays open.

        Raises:
            PatchbayError: what is wrong with the document for this model, with its path (PB_HOOK_MODULE_NOT_FOUND,
                PB_SHAPE_MISMATCH, PB_WHERE_EMPTY and others); PB_EDIT_SYNTAX, PB_EDIT_ENTRY_MISSING,
                PB_EDIT_SIGNATURE of its sources; PB_SANDBOX_LEVEL.
        """
        started = time.perf_counter()
        compiled = self._compile(job.document, job.fetch_artifact)
        prepare_graphs(compiled, job.fetch_artifact, self._maxima())
        prepared = PreparedJob(job, compiled, 0.0)
        self._jobs[job.job_id] = prepared  # from here on a cancel finds it, also while its modules are built
        if self._pool is not None and compiled.needs_sandbox:
            open_sandbox(prepared, self._pool, self._limits.vocabulary)
        prepared.prepare_ms = (time.perf_counter() - started) * 1e3
        return prepared

    def execute(self, prepared: PreparedJob, emit: Emit) -> JobOutput | None:
        """The runs, in order. Collective: every rank calls it with the same job.

        Args:
            prepared: of `prepare`.
            emit: takes events (`progress`, `token`, `log`, `artifact`) as they happen, on rank 0.

        Returns:
            Result and files on rank 0, None elsewhere.

        Raises:
            PatchbayError: why the job has failed; the engine is ready for the next job. On ranks other than 0, which do
                not know the reason, the call returns None.
        """
        try:
            return self._execute(prepared, emit)
        finally:
            self._jobs.pop(prepared.context.job_id, None)
            prepared.discard()

    def cancel(self, job_id: str, reason: str) -> None:
        """Of a prepared or running job; others are not known here. From any thread.

        Args:
            job_id: of `JobContext`.
            reason: ends up in PB_JOB_CANCELLED.
        """
        prepared = self._jobs.get(job_id)
        if prepared is not None:
            prepared.cancel(reason)

    def close(self) -> None:
        """Ends the sandboxes and leaves the torch world."""
        if self._links is not None:
            self._links.close()
        if self._pool is not None:
            self._pool.close()
        leave_world(self._world)

    def _compile(self, document: dict[str, Any], fetch: Fetch) -> CompiledJob:
        return compile_job(read_job(document), self._loaded, self._limits, fetch, self._config.mesh)

    def _maxima(self) -> Mapping[str, int]:
        """What the operator allows is known on the root, whose refusal counts."""
        return self._pool.maxima if self._pool is not None else {}

    def _execute(self, prepared: PreparedJob, emit: Emit) -> JobOutput | None:
        started = time.perf_counter()
        job = self._job_run(prepared, emit)
        outputs = self._run_all(job, prepared)
        parameters = self._parameters(job, prepared.compiled.request.parameters) if outputs is not None else None
        if not self._world.is_root:
            return None
        if outputs is None or parameters is None or job.must_stop():
            raise _failure(job, prepared.sandbox, emit)
        collected = _collect(prepared)
        parts = JobParts(
            runs=outputs,
            parameters=parameters,
            sandbox=collected,
            timings=_timings(prepared, outputs, (time.perf_counter() - started) * 1e3),
            warnings=prepared.compiled.warnings,
        )
        _emit_logs(collected.logs if collected is not None else "", emit)
        return assemble(parts, fingerprint(self.description), self._texts)

    def _job_run(self, prepared: PreparedJob, emit: Emit) -> JobRun:
        context = prepared.context
        assert self._links is not None, "a loaded engine has its links"
        deadline = context.deadline_unix_ms / 1e3 if context.deadline_unix_ms is not None else None
        return JobRun(
            loaded=self._loaded,
            world=self._world,
            editor=self._links.editor(prepared.sandbox, deadline),
            texts=self._texts,
            emit=emit,
            timeout_s=prepared.compiled.request.timeout_s,
            deadline_s=deadline,
            stop_reason=lambda: prepared.cancel_reason,
            brake=self._brake,
            fetch_artifact=context.fetch_artifact,
            store_artifact=context.store_artifact,
            resume=context.resume,
            spans=context.spans,
            warnings=prepared.compiled.warnings,
        )

    def _run_all(self, job: JobRun, prepared: PreparedJob) -> list[RunOutput] | None:
        """None when the ranks agreed to stop."""
        outputs = []
        runs = prepared.compiled.runs
        for index, run in enumerate(runs):
            # The first run starts by the supervisor's word, which all ranks have heard.
            if index > 0 and not job.agree_to_go_on():
                return None
            try:
                outputs.append(_run(job, run, prepared.compiled.request.seed + index))
            except JobStopped:
                return None
            if self._world.is_root and len(runs) > 1 and job.editor.error is None:
                job.emit({"type": "progress", "run": run.request.name, "done": index + 1, "total": len(runs)})
        return outputs

    def _parameters(self, job: JobRun, wanted: Sequence[ParameterRequest]) -> dict[ParameterRequest, Tensor] | None:
        """None when the ranks agreed to stop."""
        if not wanted:
            return {}
        if not job.agree_to_go_on():
            return None
        return gather_parameters(self._loaded, wanted, self._world)


def _run(job: JobRun, run: CompiledRun, seed: int) -> RunOutput:
    request = run.request
    if request.sampling is not None:
        return run_generate(job, run, request.sampling, seed)
    if run.loss is None:
        return run_forward(job, run)
    if request.train is None:
        return run_backward(job, run, run.loss)
    return run_train(job, run, run.loss, request.train)


def _refuse_fetch(digest: str) -> bytes:
    raise error("PB_NOT_SUPPORTED", what=f"checking inputs of the artifact {digest} before the job runs")


def _failure(job: JobRun, sandbox: SandboxJob | None, emit: Emit) -> PatchbayError:
    """Why the job stopped, known to the root alone. What the edits printed before goes out as an event."""
    if sandbox is not None:
        _emit_logs(sandbox.logs(), emit)
    return job.editor.error or error("PB_INTERNAL", reason="the ranks stopped without a reason")


def _collect(prepared: PreparedJob) -> SandboxResult | None:
    if prepared.sandbox is None:
        return None
    return prepared.sandbox.collect(modules=bool(prepared.compiled.request.modules))


def _emit_logs(logs: str, emit: Emit) -> None:
    if logs:
        emit({"type": "log", "text": logs})


def _timings(prepared: PreparedJob, outputs: list[RunOutput], execute_ms: float) -> dict[str, float]:
    reports = [report for run in outputs for report in run.reports]

    def hook_times(name: str) -> float:
        return float(sum(report[name] for report in reports))

    return {
        "prepareMs": prepared.prepare_ms,
        "executeMs": execute_ms,
        "forwardMs": sum(run.forward_ms for run in outputs),
        "gatherMs": hook_times("gatherMs"),
        "sandboxMs": hook_times("editMs"),
        "scatterMs": hook_times("scatterMs"),
    }
