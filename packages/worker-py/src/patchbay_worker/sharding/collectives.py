"""Moves between the ranks of a stage and its edit root, on the hooks' own process groups. Not here: when they are used.

The root has index 0 on both axes. A gather goes along tp to the first rank of each copy and from there along dp; a
scatter goes back the same way. Gradients: hooks/move_and_edit.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

ROOT = 0


@dataclass(frozen=True)
class HookGroup:
    """One process group along one axis; never the model's own, whose order of collectives is not ours."""

    group: dist.ProcessGroup | None
    rank: int
    size: int

    @property
    def is_root(self) -> bool:
        return self.rank == ROOT


@dataclass(frozen=True)
class HookMesh:
    """The ranks of a pipeline stage: `tp` are the shards of this rank's copy, `dp` this rank's shard in every copy."""

    tp: HookGroup
    dp: HookGroup

    @property
    def is_root(self) -> bool:
        return self.tp.is_root and self.dp.is_root

    @property
    def size(self) -> int:
        return self.tp.size * self.dp.size


ALONE = HookGroup(None, ROOT, 1)


@dataclass(frozen=True)
class ShardDims:
    """The dim of a tensor that each axis cuts, in rank order; None where all ranks of the axis hold the same."""

    tp: int | None = None
    dp: int | None = None

    def move(self, mesh: HookMesh) -> bool:
        """Whether the root lacks any part of the tensor."""
        return (self.tp is not None and mesh.tp.size > 1) or (self.dp is not None and mesh.dp.size > 1)


@dataclass
class PendingGather:
    """A gather under way along tp; the way along dp follows when it is waited for. `local` is kept alive until then."""

    local: Tensor
    dims: ShardDims
    mesh: HookMesh
    parts: list[Tensor] | None
    work: dist.Work | None

    def wait(self) -> Tensor | None:
        """The full tensor on the root, None elsewhere."""
        if self.work is not None:
            self.work.wait()
        if not self.mesh.tp.is_root:
            return None
        value = self.local
        if self.parts is not None and self.dims.tp is not None:
            value = torch.cat(self.parts, dim=self.dims.tp)
        return _gather_copies(value, self.dims.dp, self.mesh.dp)


def start_gather(local: Tensor, dims: ShardDims, mesh: HookMesh) -> PendingGather:
    """Every rank's part -> the full tensor on the root, without waiting for the way along tp."""
    group = mesh.tp
    if dims.tp is None or group.size == 1:
        return PendingGather(local, dims, mesh, None, None)
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(group.size)] if group.is_root else None
    work = dist.gather(local, parts, group_dst=ROOT, group=group.group, async_op=True)
    return PendingGather(local, dims, mesh, parts, work)


def gather_to_root(local: Tensor, dims: ShardDims, mesh: HookMesh) -> Tensor | None:
    """Every rank's part -> the full tensor on the root (the part itself where that is all of it), None elsewhere."""
    return start_gather(local, dims, mesh).wait()


def _gather_copies(value: Tensor, dim: int | None, group: HookGroup) -> Tensor | None:
    if dim is None or group.size == 1:
        return value if group.is_root else None
    value = value.contiguous()
    parts = [torch.empty_like(value) for _ in range(group.size)] if group.is_root else None
    dist.gather(value, parts, group_dst=ROOT, group=group.group)
    return torch.cat(parts, dim=dim) if parts is not None else None


def scatter_from_root(full: Tensor | None, like: Tensor, dims: ShardDims, mesh: HookMesh) -> Tensor:
    """The full tensor on the root -> every rank's part, which has the shape of `like`."""
    if mesh.tp.is_root:
        shape = list(like.shape)
        if dims.tp is not None:
            shape[dims.tp] *= mesh.tp.size
        full = _spread(full, shape, like, dims.dp, mesh.dp)
    return _spread(full, list(like.shape), like, dims.tp, mesh.tp)


def _spread(value: Tensor | None, shape: list[int], like: Tensor, dim: int | None, group: HookGroup) -> Tensor:
    """One axis: the root's value cut along `dim`, or all of it; `shape` is what this rank gets."""
    if group.size == 1:
        assert value is not None, "the only rank of an axis is its root"
        return value
    if dim is None:
        buffer = value.contiguous() if value is not None else torch.empty(shape, dtype=like.dtype, device=like.device)
        return broadcast_from_root(buffer, group)
    part = torch.empty(shape, dtype=like.dtype, device=like.device)
    parts = [each.contiguous() for each in value.chunk(group.size, dim)] if value is not None else None
    dist.scatter(part, parts, group_src=ROOT, group=group.group)
    return part


def broadcast_from_root(value: Tensor, group: HookGroup) -> Tensor:
    """The root's value on every rank. `value` is overwritten off the root and must be contiguous."""
    if group.size > 1:
        dist.broadcast(value, group_src=ROOT, group=group.group)
    return value


def sum_over(value: Tensor, group: HookGroup) -> Tensor:
    """The sum of all ranks' values on every rank; `value` is overwritten."""
    if group.size > 1:
        dist.all_reduce(value, group=group.group)
    return value


def tell_all(numbers: list[int], group: HookGroup, device: torch.device) -> list[list[int]]:
    """Every rank's few integers on every rank, in rank order."""
    if group.size == 1:
        return [numbers]
    mine = torch.tensor(numbers, dtype=torch.int64, device=device)
    parts = [torch.empty_like(mine) for _ in range(group.size)]
    dist.all_gather(parts, mine, group=group.group)
    return [[int(value) for value in part.tolist()] for part in parts]
