"""What the runs of one job share on one rank: the model, the editor, the points at which all ranks agree to go on.

Not here: how a run calls the model (run_forward.py, run_generate.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.tokens import TokenTexts
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.engine.world import World
from patchbay_worker.errors import error
from patchbay_worker.hooks.active_hook import ActiveHook
from patchbay_worker.hooks.attach import attached
from patchbay_worker.hooks.capture import Capture, CaptureLog
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.scope import RunScope

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

    def agree_to_go_on(self) -> bool:
        """Every rank asks at the same points; the root decides for all."""
        (stop,) = self.world.agree([int(self.world.is_root and self.must_stop())], count=1)
        return not stop


@dataclass
class RunOutput:
    """What a run leaves on the root. `next_logits` are [B, V]: those that follow the last real token of each row."""

    run: CompiledRun
    captures: list[Capture] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    next_logits: Tensor | None = None
    all_logits: Tensor | None = None
    generated: list[list[int]] | None = None
    stop_reasons: list[str] | None = None
    forward_ms: float = 0.0


def with_hooks(job: JobRun, run: CompiledRun, body: Callable[[RunScope, RunOutput], None]) -> RunOutput:
    """Runs `body` with the run's hooks on, waits for the reads, and leaves no hook behind."""
    output = RunOutput(run)
    captures = CaptureLog(job.world.read)
    scope = RunScope(run.request.name, job.world.edit, job.editor, captures)
    started = time.perf_counter()
    with torch.no_grad(), attached(run.hooks, scope) as active:
        body(scope, output)
    captures.finish()
    output.forward_ms = (time.perf_counter() - started) * 1e3
    _close(active, output, captures)
    return output


def _close(active: list[ActiveHook], output: RunOutput, captures: CaptureLog) -> None:
    for hook in active:
        hook.finish()
    output.captures = captures.captures
    output.reports = [hook.report.to_json() for hook in active]
