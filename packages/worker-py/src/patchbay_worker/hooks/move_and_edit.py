"""Gather -> edit once on the root -> scatter (sharded), or edit -> broadcast (replicated). Every rank of the axis calls
these in the same order; only the root has an editor.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import (
    HookGroup,
    broadcast_from_root,
    gather_to_root,
    scatter_from_root,
)

Edit = Callable[[Tensor], Tensor]


def gather_edit_scatter(local: Tensor, dim: int, group: HookGroup, edit: Edit, report: HookReport) -> Tensor:
    """x [.., N/T] on every rank -> edit(x [.., N]) on the root alone -> y [.., N/T] on every rank."""
    started = time.perf_counter()
    full = gather_to_root(local, dim, group)
    report.gather_ms += (time.perf_counter() - started) * 1e3
    if full is not None:
        report.gathered_bytes += full.nbytes * (group.size - 1) // group.size
        full = edit(full)
    started = time.perf_counter()
    result = scatter_from_root(full, local, dim, group)
    report.scatter_ms += (time.perf_counter() - started) * 1e3
    return result


def edit_broadcast(value: Tensor, group: HookGroup, edit: Edit, report: HookReport) -> Tensor:
    """x on every rank -> edit(x) on the root alone -> y on every rank. A group of one moves nothing."""
    result = edit(value) if group.is_root else value.new_empty(value.shape)
    if group.size == 1:
        return result
    started = time.perf_counter()
    result = broadcast_from_root(result.contiguous(), group)
    report.scatter_ms += (time.perf_counter() - started) * 1e3
    return result
