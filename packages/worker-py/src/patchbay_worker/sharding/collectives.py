"""Moves between the ranks of a stage and its edit root, on the hooks' own process groups. Not here: when they are used.

The root has index 0 on both axes. A gather goes along tp to the first rank of each copy and from there along dp; a
scatter goes back the same way; over links where the group has such. Gradients: hooks/move_and_edit.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from patchbay_worker.sharding.links import Links

ROOT = 0


@dataclass(frozen=True)
class HookGroup:
    """One process group along one axis; never the model's own, whose order of collectives is not ours. `links`, if any,
    carry the gathers and scatters that are waited for.
    """

    group: dist.ProcessGroup | None
    rank: int
    size: int
    links: Links | None = None

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
        value = _joined(self.parts or [self.local], self.dims.tp)
        parts = _parts(value, self.dims.dp, self.mesh.dp)
        return _joined(parts, self.dims.dp) if parts is not None else None


def start_gather(local: Tensor, dims: ShardDims, mesh: HookMesh) -> PendingGather:
    """Every rank's part -> the full tensor on the root, without waiting for the way along tp."""
    group = mesh.tp
    if dims.tp is None or group.size == 1:
        return PendingGather(local, dims, mesh, None, None)
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(group.size)] if group.is_root else None
    work = dist.gather(local, parts, group_dst=ROOT, group=group.group, async_op=True)
    return PendingGather(local, dims, mesh, parts, work)


def gather_to_root(
    local: Tensor, dims: ShardDims, mesh: HookMesh, coming: Callable[[], None] = lambda: None
) -> Tensor | None:
    """Every rank's part -> the full tensor on the root (the part itself where that is all of it), None elsewhere.
    `coming` is done once on the root, before it waits for the parts of others.
    """
    if mesh.is_root:
        coming()
    parts, dim = _parts(local, dims.tp, mesh.tp), dims.tp
    if parts is not None and dims.dp is not None and mesh.dp.size > 1:
        parts, dim = _parts(_joined(parts, dim), dims.dp, mesh.dp), dims.dp
    return _joined(parts, dim) if parts is not None else None


def _parts(value: Tensor, dim: int | None, group: HookGroup) -> list[Tensor] | None:
    """Along one axis, on its root: those of all ranks, or the value where all have the same."""
    if dim is None or group.size == 1:
        return [value] if group.is_root else None
    value = value.contiguous()
    if group.links is None:
        parts = [torch.empty_like(value) for _ in range(group.size)] if group.is_root else None
        dist.gather(value, parts, group_dst=ROOT, group=group.group)
        return parts
    if group.is_root:
        return [value, *(group.links.receive(torch.empty_like(value), source) for source in range(1, group.size))]
    group.links.send(value, ROOT)
    return None


def _joined(parts: list[Tensor], dim: int | None) -> Tensor:
    return torch.cat(parts, dim) if dim is not None and len(parts) > 1 else parts[0]


def scatter_from_root(
    full: Tensor | None, like: Tensor, dims: ShardDims, mesh: HookMesh, meanwhile: Callable[[], None] = lambda: None
) -> Tensor:
    """The full tensor on the root -> every rank's part, which has the shape of `like`. `meanwhile` is done once, while
    bytes are on their last way; it must not change `full`.
    """
    over_tp = mesh.tp.size > 1
    if mesh.tp.is_root:
        shape = list(like.shape)
        if dims.tp is not None:
            shape[dims.tp] *= mesh.tp.size
        full = _spread(full, shape, like, dims.dp, mesh.dp, None if over_tp else meanwhile)
    return _spread(full, list(like.shape), like, dims.tp, mesh.tp, meanwhile) if over_tp else _own(full)


def _spread(
    value: Tensor | None,
    shape: list[int],
    like: Tensor,
    dim: int | None,
    group: HookGroup,
    meanwhile: Callable[[], None] | None,
) -> Tensor:
    """One axis: the root's value cut along `dim`, or all of it; `shape` is what this rank gets."""
    if group.size == 1:
        part, work = _own(value), None
    elif group.links is not None:
        part, work = _over_links(value, shape, like, dim, group, group.links), None
    elif dim is None:
        part = value.contiguous() if value is not None else torch.empty(shape, dtype=like.dtype, device=like.device)
        work = dist.broadcast(part, group_src=ROOT, group=group.group, async_op=True)
    else:
        part = torch.empty(shape, dtype=like.dtype, device=like.device)
        parts = _cut(value, dim, group.size) if value is not None else None
        work = dist.scatter(part, parts, group_src=ROOT, group=group.group, async_op=True)
    if meanwhile is not None:
        meanwhile()
    if work is not None:
        work.wait()
    return part


def _over_links(
    value: Tensor | None, shape: list[int], like: Tensor, dim: int | None, group: HookGroup, links: Links
) -> Tensor:
    if value is None:
        return links.receive(torch.empty(shape, dtype=like.dtype), ROOT, asleep=True)
    for place in range(1, group.size):
        links.announce(value.nbytes // (group.size if dim is not None else 1), place)
    parts = [value.contiguous()] * group.size if dim is None else _cut(value, dim, group.size)
    for place in range(1, group.size):
        links.send(parts[place], place)
    return parts[ROOT]


def _cut(value: Tensor, dim: int, size: int) -> list[Tensor]:
    return [each.contiguous() for each in value.chunk(size, dim)]


def _own(value: Tensor | None) -> Tensor:
    assert value is not None, "the only rank of an axis is its root"
    return value


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
