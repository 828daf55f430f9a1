"""A loss function of the user's own: called once, on the root, in the sandbox; all ranks get value and gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from patchbay_worker.engine.run.run_context import JobRun
from patchbay_worker.sharding.collectives import ShardDims, broadcast_from_root, gather_to_root, scatter_from_root

ROWS = ShardDims(dp=0)


class _SandboxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, job: JobRun, rows: int, source: int) -> Tensor:
        editor, world = job.editor, job.world
        ctx.job, ctx.rows, ctx.source, ctx.graph = job, rows, source, editor.new_graph()
        ctx.save_for_backward(logits)
        full = gather_to_root(logits, ROWS, world.edit)
        ctx.full = full
        value = logits.new_empty(())
        if world.is_root and full is not None:
            value = editor.loss(source, full[:rows], ctx.graph)
        return broadcast_from_root(value, world.all)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (logits,) = ctx.saved_tensors
        editor, world = ctx.job.editor, ctx.job.world
        whole = None
        if world.is_root:
            whole = torch.zeros_like(ctx.full)
            whole[: ctx.rows] = editor.loss_gradient(ctx.source, gradient, ctx.graph, ctx.full[: ctx.rows])
        if world.mesh.pp > 1:
            part = broadcast_from_root(whole if whole is not None else torch.empty_like(logits), world.all)
        else:
            part = scatter_from_root(whole, logits, ROWS, world.edit)
        return part, None, None, None


def sandbox_loss(logits: Tensor, job: JobRun, rows: int, source: int) -> Tensor:
    """[B, S, V] of a copy -> the scalar over the job's `rows`, of the same dtype."""
    value: Tensor = _SandboxLoss.apply(logits, job, rows, source)  # type: ignore[no-untyped-call]
    return value
