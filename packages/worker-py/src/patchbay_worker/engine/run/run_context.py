"""What the runs of one job share on one rank: the model, the editor, the points at which all ranks agree to go on.

Not here: how a run calls the model (run_forward.py, run_generate.py, run_backward.py, run_train.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from patchbay_worker.engine.config import Checkpoint
from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.inputs import Share, share_of
from patchbay_worker.engine.job.tokens import TokenTexts
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.engine.pipeline.bring_home import bring_home
from patchbay_worker.engine.run.brake import Brake
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.engine.world import World
from patchbay_worker.errors import error
from patchbay_worker.hooks.attach import Active, attached
from patchbay_worker.hooks.capture import CaptureLog
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.scope import Rows, RunScope
from patchbay_worker.hooks.token_guard import guarded_ids
from patchbay_worker.sharding.collectives import sum_over
from patchbay_worker.sharding.fsdp import free_weights
from patchbay_worker.spans import Span, SpanLog

Emit = Callable[[dict[str, Any]], None]


@dataclass
class JobRun:
    """`stop_reason` tells why the job was cancelled, None while it is wanted. It and the deadline count on the root."""

    loaded: LoadedModel
    world: World
    editor: Editor
    texts: TokenTexts
    emit: Emit
    timeout_s: float
    deadline_s: float | None
    stop_reason: Callable[[], str | None]
    brake: Brake
    fetch_artifact: Callable[[str], bytes]
    store_artifact: Callable[[bytes], str]
    resume: Mapping[str, Checkpoint]
    spans: SpanLog
    warnings: list[str]

    def must_stop(self) -> bool:
        """Root only: true once an edit failed, the job was cancelled or its time is over."""
        reason = self.stop_reason()
        if reason is not None:
            # A killed sandbox fails its edit too; the cancel is the cause.
            self.editor.error = error("PB_JOB_CANCELLED", reason=reason)
        elif self.deadline_s is not None and time.time() > self.deadline_s and not self._edit_failed():
            self.editor.error = error("PB_JOB_TIMEOUT", timeoutMs=round(self.timeout_s * 1e3))
        return self.editor.error is not None

    def _edit_failed(self) -> bool:
        """By its own fault, not because the job's time ran out under it."""
        return self.editor.error is not None and self.editor.error.code != "PB_EDIT_TIMEOUT"

    def share(self, run: CompiledRun) -> Share:
        """The rows that this rank's copy runs."""
        return share_of(run.batch, self.world.copy, self.world.mesh.dp)

    def agree_to_go_on(self) -> bool:
        """Every rank asks at the same points; the root decides for all."""
        (stop,) = self.world.agree([int(self.world.is_root and self.must_stop())], count=1)
        return not stop


def with_hooks(
    job: JobRun, run: CompiledRun, body: Callable[[RunScope, RunOutput], None], *, differentiated: bool = False
) -> RunOutput:
    """Runs `body` with the run's hooks on, waits for the reads, and leaves no hook and no graph behind.

    Raises JobStopped on every rank when the job is to end before the run does.
    """
    output = RunOutput(run)
    captures = CaptureLog(job.world.read)
    rows = Rows(len(run.batch.tokens), job.share(run).padded_rows)
    scope = RunScope(run.request.name, job.world.edit, job.editor, captures, rows)
    own = [hook for hook in run.hooks if hook.stage == job.world.stage]
    started = time.perf_counter()
    try:
        with (
            torch.set_grad_enabled(differentiated),
            attached(own, scope) as active,
            guarded_ids(job.loaded.model, own, scope),
            job.brake.applied(job.must_stop),
        ):
            body(scope, output)
    finally:
        captures.finish()
        job.editor.end_run()
        free_weights(job.loaded.model)
    if job.spans.wanted:
        job.spans.add(_span(run, active, started))
    if any(hook.report.route == "local" for hook in active):
        _put_together(job, active)
    _close(active, output, captures)
    output.forward_ms = (time.perf_counter() - started) * 1e3
    bring_home(job.world, output)
    if differentiated and job.world.is_root:  # no stage is in its backward pass any more
        job.editor.tell(lambda sandbox: sandbox.release())
    return output


def _span(run: CompiledRun, active: list[Active], started: float) -> Span:
    hooks = [span for hook in active if (span := hook.report.span()) is not None]
    return Span(run.request.mode, started, time.perf_counter(), {"run": run.request.name}, hooks)


def _put_together(job: JobRun, active: list[Active]) -> None:
    """Reports of shards that were edited apart; and a failure on another rank, of which the root has not heard yet."""
    reports = [hook.report for hook in active]
    parts = [
        torch.tensor([float(job.editor.error is not None)], dtype=torch.float64),
        *(each.parts() for each in reports),
    ]
    total = torch.cat(parts).to(job.world.device)
    sum_over(sum_over(total, job.world.edit.tp), job.world.edit.dp)
    failed, *totals = torch.split(total.cpu(), [len(part) for part in parts])
    if failed.any() and job.world.edit.is_root and job.editor.error is None:
        reason = "a rank could not compute a graph edit, most likely for lack of memory"
        job.editor.poison(error("PB_INTERNAL", reason=reason))
    for report, each in zip(reports, totals, strict=True):
        report.put_together(each)


def _close(active: list[Active], output: RunOutput, captures: CaptureLog) -> None:
    for hook in active:
        hook.finish()
    output.captures = captures.captures
    output.reports = [hook.report.to_json() for hook in active]
