"""The three moves between shards and the edit root, on the hooks' own process groups. Not here: when they are used.

Not differentiable: gradient modes are refused in engine/job/compile_job.py. The root is rank 0 of the group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

ROOT = 0


@dataclass(frozen=True)
class HookGroup:
    """One process group over the tp axis; never the model's own, whose order of collectives is not ours."""

    group: dist.ProcessGroup | None
    rank: int
    size: int

    @property
    def is_root(self) -> bool:
        return self.rank == ROOT


@dataclass
class PendingGather:
    """A gather under way; `local` is kept alive until it ends."""

    local: Tensor
    parts: list[Tensor] | None
    dim: int
    work: dist.Work | None

    def wait(self) -> Tensor | None:
        """The full tensor on the root, None elsewhere."""
        if self.work is not None:
            self.work.wait()
        return torch.cat(self.parts, dim=self.dim) if self.parts is not None else None


def start_gather(local: Tensor, dim: int, group: HookGroup) -> PendingGather:
    """[.., N/T, ..] on every rank -> [.., N, ..] on the root, without waiting."""
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(group.size)] if group.is_root else None
    work = dist.gather(local, parts, dst=ROOT, group=group.group, async_op=True)
    return PendingGather(local, parts, dim, work)


def gather_to_root(local: Tensor, dim: int, group: HookGroup) -> Tensor | None:
    """[.., N/T, ..] on every rank -> [.., N, ..] on the root, None elsewhere."""
    return start_gather(local, dim, group).wait()


def scatter_from_root(full: Tensor | None, like: Tensor, dim: int, group: HookGroup) -> Tensor:
    """[.., N, ..] on the root -> this rank's [.., N/T, ..]."""
    local = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    parts = [part.contiguous() for part in full.chunk(group.size, dim)] if full is not None else None
    dist.scatter(local, parts, src=ROOT, group=group.group)
    return local


def broadcast_from_root(value: Tensor, group: HookGroup) -> Tensor:
    """The root's value on every rank. `value` is overwritten off the root and must be contiguous."""
    if group.size > 1:
        dist.broadcast(value, src=ROOT, group=group.group)
    return value
