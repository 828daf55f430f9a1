"""Generation with the KV cache: the prompt is step 0, then one token per row and step. The root samples and sends the
tokens round with the stop flag in the same collective, so that all ranks stop together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.job_spec import Sampling
from patchbay_worker.engine.run.run_context import JobRun, with_hooks
from patchbay_worker.engine.run.run_forward import all_rows, prompt_view
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.engine.run.sampling import Sampler
from patchbay_worker.hooks.scope import RunScope
from patchbay_worker.hooks.selection import TokenView

STOP = 1


def end_tokens(model: Any) -> frozenset[int]:
    """Tokens after which a row is finished."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    if configured is None:
        configured = getattr(model.config, "eos_token_id", None)
    if configured is None:
        return frozenset()
    return frozenset(configured if isinstance(configured, list) else [configured])


class Generation:
    """State of one generating run; the same on every rank but for the sampler, which only the root uses."""

    def __init__(self, job: JobRun, run: CompiledRun, sampling: Sampling, seed: int) -> None:
        self.job = job
        self.run = run
        self.limit = sampling.max_new_tokens
        self.share = job.share(run)
        batch, rows = self.share.batch, len(run.batch.tokens)
        self.sampler = Sampler(sampling, seed)
        self.ends = end_tokens(job.loaded.model)
        self.done = [False] * rows
        self.generated: list[list[int]] = [[] for _ in range(rows)]
        room = torch.ones(len(batch.tokens), self.limit, dtype=batch.attention_mask.dtype, device=job.world.device)
        self.mask = torch.cat([batch.attention_mask, room], dim=1)
        self.lengths = torch.tensor(batch.lengths, device=job.world.device)
        self.next_logits: Tensor | None = None  # of each row, as long as it was not finished
        self.kept_logits: list[Tensor] = []

    def body(self, scope: RunScope, output: RunOutput) -> None:
        logits, cache = self._prompt(scope)
        for step in range(1, self.limit + 1):
            tokens = self._choose(logits, step)
            if tokens is None or step == self.limit or all(self.done):
                break
            logits, cache = self._step(scope, step, tokens, cache)
        if self.job.world.is_root:
            output.next_logits = self.next_logits
            output.all_logits = torch.stack(self.kept_logits, dim=1) if self.kept_logits else None
            output.generated = self.generated
            output.stop_reasons = ["eos" if done else "length" for done in self.done]

    def _prompt(self, scope: RunScope) -> tuple[Tensor, Any]:
        batch = self.share.batch
        scope.begin_call(prompt_view(self.job, self.run, 0))
        result = self.job.loaded.forward(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            past_key_values=self.job.loaded.new_cache(),
            use_cache=True,
        )
        rows = torch.arange(len(batch.tokens), device=self.lengths.device)
        return result.logits[rows, self.lengths - 1], result.past_key_values

    def _step(self, scope: RunScope, step: int, tokens: list[int], cache: Any) -> tuple[Tensor, Any]:
        lengths = self.run.batch.lengths
        seen = [[] if done else [token] for done, token in zip(self.done, tokens, strict=True)]
        start = [length + step - 1 for length in lengths]
        scope.begin_call(TokenView(step, seen, start, 1, lengths, self.job.world.device))
        share = self.share
        own = [tokens[row if row < len(tokens) else 0] for row in range(share.start, share.start + len(self.lengths))]
        result = self.job.loaded.forward(
            input_ids=torch.tensor(own, device=self.lengths.device)[:, None],
            attention_mask=self.mask[:, : share.batch.width + step],
            position_ids=(self.lengths + (step - 1))[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return result.logits[:, -1], result.past_key_values

    def _choose(self, own_logits: Tensor, step: int) -> list[int] | None:
        """The tokens of this step, of all copies, on every rank; or None when the job stops."""
        world = self.job.world
        logits = all_rows(self.job, self.run, own_logits)
        message = []
        if logits is not None:
            message = [STOP if self.job.must_stop() else 0, *self.sampler.next_tokens(logits)]
        flag, *tokens = world.agree(message, count=1 + len(self.done))
        if flag == STOP:
            return None
        if logits is not None:
            self._remember(logits)
        active = [row for row, done in enumerate(self.done) if not done]
        for row in active:
            self.generated[row].append(tokens[row])
            if world.is_root:
                self._emit(row, step, tokens[row])
            self.done[row] = tokens[row] in self.ends
        return tokens

    def _remember(self, logits: Tensor) -> None:
        if self.next_logits is None:
            self.next_logits = logits.clone()
        else:
            active = ~torch.tensor(self.done, device=logits.device)
            self.next_logits[active] = logits[active]
        if self.run.request.logits == "all":
            self.kept_logits.append(logits)

    def _emit(self, row: int, step: int, token: int) -> None:
        self.job.emit(
            {
                "type": "token",
                "run": self.run.request.name,
                "row": row,
                "step": step - 1,
                "position": self.run.batch.lengths[row] + step - 1,
                "tokenId": token,
                "text": self.job.texts.text(token),
            }
        )


def run_generate(job: JobRun, run: CompiledRun, sampling: Sampling, seed: int) -> RunOutput:
    return with_hooks(job, run, Generation(job, run, sampling, seed).body)
