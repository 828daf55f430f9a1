"""A forward and a backward pass from a loss. Gradients reach hooks; no weight of the model changes.

Not here: which scalar (engine/job/loss.py), steps of an optimiser (run_train.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.loss import Loss
from patchbay_worker.engine.run.run_context import JobRun, with_hooks
from patchbay_worker.engine.run.run_forward import forward_pass, keep_logits
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.engine.run.sandbox_loss import sandbox_loss
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.sharding.collectives import sum_over


def run_backward(job: JobRun, run: CompiledRun, loss: Loss) -> RunOutput:
    def body(scope: RunScope, output: RunOutput) -> None:
        with differentiable_embedding(job.loaded.model):
            logits, output.loss = differentiate(job, run, scope, loss, step=0)
        keep_logits(job, run, logits, output)

    return with_hooks(job, run, body, differentiated=True)


def differentiate(job: JobRun, run: CompiledRun, scope: RunScope, loss: Loss, *, step: int) -> tuple[Tensor, float]:
    """One forward and one backward pass: this copy's logits, and the loss over all copies."""
    logits = forward_pass(job, run, scope, step=step)
    pipeline = job.loaded.pipeline
    if pipeline is not None and not job.world.is_last_stage:
        logits = logits.detach().requires_grad_()  # the last stage's, which every stage has been told
    if loss.source is not None:
        value = sandbox_loss(logits, job, len(run.batch.tokens), loss.source)
    else:
        value = loss.of(logits, job.share(run), run.batch)
    if value.requires_grad:
        torch.autograd.backward(value)
    if pipeline is not None:
        pipeline.backward()
    scope.end_backward()
    total = value.detach() if loss.source is not None else sum_over(value.detach().clone(), job.world.edit.dp)
    return logits.detach(), float(total)


@contextmanager
def differentiable_embedding(model: Any) -> Iterator[None]:
    """Weights are frozen, so this is where the graph begins; first of the module's hooks, so that edits are in it."""

    def begin(_module: nn.Module, _args: Any, output: Tensor) -> None:
        output.requires_grad_()

    handle = model.get_input_embeddings().register_forward_hook(begin, prepend=True)
    try:
        with torch.enable_grad():
            yield
    finally:
        handle.remove()
