"""One forward pass over a batch of prompts. Not here: hooks (run_context.py), what is returned (results.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.run.run_context import JobRun, with_hooks
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.selection import TokenView
from patchbay_worker.sharding.collectives import ShardDims, gather_to_root


def run_forward(job: JobRun, run: CompiledRun) -> RunOutput:
    def body(scope: RunScope, output: RunOutput) -> None:
        keep_logits(job, run, forward_pass(job, run, scope, step=0), output)

    return with_hooks(job, run, body)


def forward_pass(job: JobRun, run: CompiledRun, scope: RunScope, *, step: int) -> Tensor:
    """Logits [B, S, V] of this copy's prompts, without a cache."""
    scope.begin_call(prompt_view(job, run, step))
    batch = job.share(run).batch
    logits: Tensor = job.loaded.forward(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits
    return logits


def prompt_view(job: JobRun, run: CompiledRun, step: int) -> TokenView:
    """Whole prompts, of all copies."""
    batch = run.batch
    return TokenView(step, batch.tokens, [0] * len(batch.tokens), batch.width, batch.lengths, job.world.device)


def all_rows(job: JobRun, run: CompiledRun, value: Tensor) -> Tensor | None:
    """[rows of a copy, ..] on every rank -> [rows of the job, ..] on the root."""
    full = gather_to_root(value, ShardDims(dp=0), job.world.edit)
    return full[: len(run.batch.tokens)] if full is not None and job.world.is_root else None


def keep_logits(job: JobRun, run: CompiledRun, logits: Tensor, output: RunOutput) -> None:
    """Only what was asked for goes from the copies to the root."""
    batch = job.share(run).batch
    last = torch.tensor(batch.lengths, device=logits.device) - 1
    output.next_logits = all_rows(job, run, logits[torch.arange(len(batch.tokens), device=logits.device), last])
    if run.request.logits == "all":
        output.all_logits = all_rows(job, run, logits)
