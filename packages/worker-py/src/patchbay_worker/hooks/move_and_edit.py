"""To the root, edit once, back to every rank; and the same for the gradient. Every rank of a stage calls these in the
same order; only the root has an editor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import HookMesh, ShardDims, gather_to_root, scatter_from_root

Edit = Callable[[Tensor], Tensor]
Move = Callable[[Tensor, Edit], Tensor]
"""`move_and_edit` of one hook: (this rank's value, edit) -> this rank's result."""
LARGE_BYTES: Final = 8 << 20
"""Such tensors are not kept for a report longer than the edit takes."""


def move_and_edit(
    value: Tensor, dims: ShardDims, mesh: HookMesh, edit: Edit, report: HookReport, editor: Editor
) -> Tensor:
    """x, cut along `dims`, on every rank -> edit(full x) on the root alone -> y, cut in the same way, on every rank.

    The report of the edit is postponed where neither x nor y is the model's own tensor, which it may change.
    """
    started = time.perf_counter()
    full = gather_to_root(value, dims, mesh, editor.rouse)
    report.took("gather", started)
    is_ours = full is not None and full is not value and full.nbytes <= LARGE_BYTES
    if full is not None:
        report.gathered_bytes += full.nbytes - value.nbytes
        full = edit(full)
    started = time.perf_counter()
    result = scatter_from_root(full, value, dims, mesh, meanwhile=(lambda: None) if is_ours else report.settle)
    report.took("scatter", started)
    if full is not None and is_ours:
        if result.data_ptr() == full.data_ptr():  # the root's part is the first one: a view of all where nothing is cut
            report.settle()
        else:
            editor.postpone(report.settle, 2 * full.nbytes)
    return result


class _EditWithGradient(torch.autograd.Function):
    """The way back moves as the way there did: to the root, once, and out again."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, move: Move, edit: Edit, pull_back: Edit) -> Tensor:
        ctx.move, ctx.pull_back = move, pull_back
        return move(value, edit)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, ctx.move(gradient.contiguous(), ctx.pull_back), None, None, None


def with_gradient(value: Tensor, move: Move, edit: Edit, pull_back: Edit) -> Tensor:
    """`move(value, edit)`, whose gradient is `move(gradient, pull_back)`; also where `value` itself needs none, since
    the edit may use modules that are trained.
    """
    anchor = torch.zeros((), requires_grad=True)
    result: Tensor = _EditWithGradient.apply(anchor, value, move, edit, pull_back)  # type: ignore[no-untyped-call]
    return result
