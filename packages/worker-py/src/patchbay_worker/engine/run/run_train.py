"""Trains the modules of a job through the frozen model: forward, loss, backward, one step, again on the same inputs.

The optimiser lives with the modules in the sandbox (sandbox/job/training.py). Hooks see every step; their rows carry
it, and `where.steps` chooses. Not here: the loss (engine/job/loss.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final

from patchbay_worker.engine.config import Checkpoint
from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.job_spec import Train
from patchbay_worker.engine.job.loss import Loss
from patchbay_worker.engine.run.checkpoints import keep_checkpoint, load_checkpoint
from patchbay_worker.engine.run.run_backward import differentiable_embedding, differentiate
from patchbay_worker.engine.run.run_context import JobRun, with_hooks
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.hooks.editor import HomeSandbox
from patchbay_worker.hooks.scope import RunScope

PROGRESS_S: Final = 0.1


def run_train(job: JobRun, run: CompiledRun, loss: Loss, train: Train) -> RunOutput:
    progress = _Progress(job, run.request.name, train.steps)

    def train_modules(scope: RunScope, output: RunOutput) -> None:
        output.losses = []
        saved = job.resume.get(run.request.name)
        if job.world.is_root:
            output.losses = _begin(job, run, train, saved)
        for step in range(saved.step if saved is not None else 0, train.steps):
            # A checkpoint that only the home rank can read may have failed there.
            if (step > 0 or saved is not None) and not job.agree_to_go_on():
                return
            _, value = differentiate(job, run, scope, loss, step=step)
            if job.world.is_root:
                job.editor.tell(lambda sandbox: sandbox.step())
                output.losses.append(value)
                progress.tell(output.losses)
                keep_checkpoint(job, run.request.name, train, output.losses)

    def body(scope: RunScope, output: RunOutput) -> None:
        # Modules need no gradient of what comes before them; hooks of gradients may.
        watched = any(hook.spec.of_gradients for hook in run.hooks)
        with differentiable_embedding(job.loaded.model) if watched else nullcontext():
            train_modules(scope, output)

    return with_hooks(job, run, body, differentiated=True)


def _begin(job: JobRun, run: CompiledRun, train: Train, saved: Checkpoint | None) -> list[float]:
    """The losses so far. A failure poisons the job, and the ranks hear of it when they next agree."""
    losses: list[float] = []

    def begin(sandbox: HomeSandbox) -> None:
        if saved is not None:
            tensors, before = load_checkpoint(job, run, saved)
            sandbox.restore(tensors)
            losses.extend(before)
        sandbox.begin_training(_torch_options(train.optimizer))

    job.editor.tell(begin)
    return losses


def _torch_options(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    names = {"weightDecay": "weight_decay"}
    return {names.get(key, key): value for key, value in optimizer.items()}


class _Progress:
    """The loss curve as events, at most ten a second; the last step is always told."""

    def __init__(self, job: JobRun, run: str, steps: int) -> None:
        self._job = job
        self._run = run
        self._steps = steps
        self._next = 0.0

    def tell(self, losses: list[float]) -> None:
        now = time.monotonic()
        if self._job.editor.error is not None or (now < self._next and len(losses) < self._steps):
            return
        self._next = now + PROGRESS_S
        loss = losses[-1] if math.isfinite(losses[-1]) else None
        event = {"type": "progress", "run": self._run, "done": len(losses), "total": self._steps, "loss": loss}
        self._job.emit(event)
