"""One forward pass over a batch of prompts. Not here: hooks (run_context.py), what is returned (results.py)."""

from __future__ import annotations

import torch

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.run.run_context import JobRun, RunOutput, with_hooks
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.selection import TokenView


def run_forward(job: JobRun, run: CompiledRun) -> RunOutput:
    batch = run.batch

    def body(scope: RunScope, output: RunOutput) -> None:
        rows = len(batch.tokens)
        scope.begin_call(TokenView(0, batch.tokens, [0] * rows, batch.width, batch.lengths, job.world.device))
        logits = job.loaded.forward(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
        if job.world.is_root:
            last = torch.tensor(batch.lengths, device=logits.device) - 1
            output.next_logits = logits[torch.arange(rows, device=logits.device), last]
            if run.request.logits == "all":
                output.all_logits = logits

    return with_hooks(job, run, body)
