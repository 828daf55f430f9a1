"""The process groups of one rank: the model's own (default), for edits, for reads, for all; and on the CPU the links
that carry edits. Not here: what they carry.

All groups wait longer than any edit may run: while the root edits, the other ranks wait in a collective. Dead peers
end a collective at once; hung ones are found by the supervisor's heartbeats, not by these time-outs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.links.hook_links import address_towards, link
from patchbay_worker.sharding.collectives import ALONE, HookGroup, HookMesh, broadcast_from_root
from patchbay_worker.sharding.mesh import Mesh

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # limits.editTimeoutMs allows 10 minutes


@dataclass(frozen=True)
class World:
    """`edit` and `read` are this stage's groups; `all` is for the small agreements of every rank. Every collective is
    issued by the one job thread.
    """

    rank: int
    mesh: Mesh
    device: torch.device
    edit: HookMesh
    read: HookMesh
    all: HookGroup

    @property
    def is_root(self) -> bool:
        """The home rank: it has the sandbox and gives the result."""
        return self.all.is_root

    @property
    def stage(self) -> int:
        return self.mesh.place(self.rank)[0]

    @property
    def copy(self) -> int:
        return self.mesh.place(self.rank)[1]

    @property
    def is_last_stage(self) -> bool:
        return self.stage == self.mesh.pp - 1

    def agree(self, values: list[int], *, count: int) -> list[int]:
        """The root's integers on every rank; `values` are read on the root only."""
        if self.all.size == 1:
            return values
        shared = torch.tensor(values if self.is_root else [0] * count, dtype=torch.int64, device=self.device)
        return [int(value) for value in broadcast_from_root(shared, self.all).tolist()]

    def share_bytes(self, data: bytes | None, source: int = 0) -> bytes:
        """The bytes of rank `source` on every rank; `data` is None elsewhere."""
        if self.all.size == 1:
            return data or b""
        length = torch.tensor([len(data or b"")], dtype=torch.int64, device=self.device)
        dist.broadcast(length, group_src=source, group=self.all.group)
        buffer = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if data:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(buffer, group_src=source, group=self.all.group)
        return bytes(buffer.cpu().numpy())

    def send_home(self, value: Tensor | None, source: int, like: Tensor) -> Tensor | None:
        """Rank `source`'s tensor on the home rank; `like` has its shape and dtype on both. Others do nothing."""
        if source == 0:
            return value if self.is_root else None
        if self.rank == source and value is not None:
            dist.send(value.to(self.device).contiguous(), group_dst=0, group=self.all.group)
        if not self.is_root:
            return None
        buffer = torch.empty(like.shape, dtype=like.dtype, device=self.device)
        dist.recv(buffer, group_src=source, group=self.all.group)
        return buffer

    def gather_tp(self, value: Tensor) -> list[Tensor]:
        """The tensor of every shard of this copy, all of the same shape, in rank order."""
        group = self.edit.tp
        if group.size == 1:
            return [value]
        parts = [torch.empty_like(value) for _ in range(group.size)]
        dist.all_gather(parts, value, group=group.group)
        return parts


def join_world(config: EngineConfig) -> World:
    """Joins the torch world; a world of one needs no process group."""
    device, mesh = _device(config), config.mesh
    if config.world_size == 1:
        alone = HookMesh(ALONE, ALONE)
        return World(0, mesh, device, alone, alone, ALONE)
    os.environ.update(
        RANK=str(config.rank),
        WORLD_SIZE=str(config.world_size),
        MASTER_ADDR=config.master_addr,
        MASTER_PORT=str(config.master_port),
    )
    # transformers binds its mesh to this ordinal; each rank sees its own device first unless torchrun says otherwise.
    os.environ.setdefault("LOCAL_RANK", "0")
    backend = "nccl" if config.device == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        rank=config.rank,
        world_size=config.world_size,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=device if config.device == "cuda" else None,
    )
    everyone = HookGroup(dist.new_group(timeout=COLLECTIVE_TIMEOUT), config.rank, config.world_size)
    edit, read = (HookMesh(*(_own(groups, config.rank) for groups in _axes(mesh))) for _ in range(2))
    world = World(config.rank, mesh, device, edit, read, everyone)
    return _linked(world, config) if device.type == "cpu" else world


def _linked(world: World, config: EngineConfig) -> World:
    """Edits move over links: on the CPU they are faster than the groups, which GPUs are not."""
    host = address_towards(config.master_addr, config.master_port)
    timeout_s = COLLECTIVE_TIMEOUT.total_seconds()
    tp, dp = (link(groups, world.rank, world.share_bytes, host, timeout_s) for groups in _axes(world.mesh))
    edit = world.edit
    return replace(world, edit=HookMesh(replace(edit.tp, links=tp), replace(edit.dp, links=dp)))


def _axes(mesh: Mesh) -> tuple[list[list[int]], list[list[int]]]:
    return mesh.tp_groups(), mesh.dp_groups()


def _own(groups: list[list[int]], rank: int) -> HookGroup:
    """The group that this rank is in; every rank makes every group, in one order."""
    made = [dist.new_group(ranks, timeout=COLLECTIVE_TIMEOUT) if len(ranks) > 1 else None for ranks in groups]
    index = next(index for index, ranks in enumerate(groups) if rank in ranks)
    ranks = groups[index]
    return HookGroup(made[index], ranks.index(rank), len(ranks))


def leave_world(world: World) -> None:
    for group in (world.edit.tp, world.edit.dp):
        if group.links is not None:
            group.links.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def _device(config: EngineConfig) -> torch.device:
    if config.device == "cpu":
        # transformers takes any accelerator it can see; a CPU deployment must not end up on one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
