"""The process groups of one rank: the model's own (default), one for edits, one for reads. Not here: what they carry.

All groups wait longer than any edit may run: while the root edits, the other ranks wait in a collective. Dead peers
end a collective at once; hung ones are found by the supervisor's heartbeats, not by these time-outs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.sharding.collectives import HookGroup, broadcast_from_root

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # limits.editTimeoutMs allows 10 minutes


@dataclass(frozen=True)
class World:
    """`edit` also carries the small agreements; every collective of a group is issued by the one job thread."""

    rank: int
    size: int
    device: torch.device
    edit: HookGroup
    read: HookGroup

    @property
    def is_root(self) -> bool:
        return self.edit.is_root

    def agree(self, values: list[int], *, count: int) -> list[int]:
        """The root's integers on every rank; `values` are read on the root only."""
        if self.size == 1:
            return values
        shared = torch.tensor(values if self.is_root else [0] * count, dtype=torch.int64, device=self.device)
        return [int(value) for value in broadcast_from_root(shared, self.edit).tolist()]

    def share_bytes(self, data: bytes | None) -> bytes:
        """The root's bytes on every rank; `data` is None elsewhere."""
        if self.size == 1:
            return data or b""
        (length,) = self.agree([len(data or b"")], count=1)
        buffer = torch.zeros(length, dtype=torch.uint8, device=self.device)
        if data is not None:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return bytes(broadcast_from_root(buffer, self.edit).cpu().numpy())

    def all_gather(self, value: Tensor) -> list[Tensor]:
        """Every rank's tensor of the same shape, in rank order."""
        if self.size == 1:
            return [value]
        parts = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(parts, value, group=self.edit.group)
        return parts


def join_world(config: EngineConfig) -> World:
    """Joins the torch world; a world of one needs no process group."""
    device = _device(config)
    if config.world_size == 1:
        alone = HookGroup(None, 0, 1)
        return World(0, 1, device, alone, alone)
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
    groups = [dist.new_group(timeout=COLLECTIVE_TIMEOUT) for _ in range(2)]
    edit, read = (HookGroup(group, config.rank, config.world_size) for group in groups)
    return World(config.rank, config.world_size, device, edit, read)


def leave_world() -> None:
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
