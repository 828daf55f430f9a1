"""Whether the shards fit, before any weight is read: what every rank will hold, from the headers of the checkpoint and
the model's own plans, against what its node or device has free. All ranks of a node count together. And what the load
took, measured. Not here: reservations between deployments (cluster/placement.py).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed.tensor import DTensor

from patchbay_worker.engine.checkpoint_size import StoredTensor, stored_tensors
from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.world import World
from patchbay_worker.errors import error
from patchbay_worker.sharding.collectives import tell_all

_CGROUP_V2 = Path("/sys/fs/cgroup")
_CGROUP_V1 = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one rank. `needed` is 0 where the checkpoint told nothing before the load."""

    needed: int
    held: int
    process: int

    def to_json(self) -> dict[str, int]:
        return {"neededBytes": self.needed, "heldBytes": self.held, "processBytes": self.process}


def check_memory(config: EngineConfig, world: World, hf_config: Any, skeleton: Any | None) -> int:
    """Every rank calls it and comes to the same verdict. Returns this rank's bytes of weights. Raises PB_MEMORY."""
    tensors = stored_tensors(config.model_path)
    if tensors is None:
        needed, largest = 0, 0
    else:
        needed, largest = _shard_bytes(tensors, config, world, hf_config, skeleton)
    told = tell_all([needed, largest, _available(world.device), _place(world.device)], world.all, world.device)
    for place in dict.fromkeys(entry[3] for entry in told):
        there = [(rank, entry) for rank, entry in enumerate(told) if entry[3] == place]
        # While it loads, a rank also holds the one tensor that it is reading.
        wanted = sum(entry[0] + entry[1] for _, entry in there)
        free = min(entry[2] for _, entry in there)
        if wanted > free:
            ranks = ", ".join(str(rank) for rank, _ in there)
            raise error(
                "PB_MEMORY",
                model=config.name,
                needed=_gib(wanted),
                free=_gib(free),
                where=f"{'the device' if world.device.type == 'cuda' else 'the node'} of ranks {ranks}",
            )
    return needed


def free_the_rest(model: Any) -> None:
    """A shard along dim 0 is loaded as a view that keeps the whole tensor in memory: each gets storage of its own."""
    for value in model.parameters():
        if isinstance(value, DTensor):
            local = value._local_tensor
            if local.untyped_storage().nbytes() > local.numel() * local.element_size():
                own = local.clone()
                local.set_(own.untyped_storage(), 0, own.shape, own.stride())


def measure(needed: int, model: Any, device: torch.device) -> MemoryUse:
    """After the load: bytes of this rank's parameters and buffers, and of the whole process."""
    storages: dict[int, int] = {}
    for value in (*model.parameters(), *model.buffers()):
        local = value.to_local() if hasattr(value, "to_local") else value
        storage = local.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    whole = torch.cuda.memory_reserved(device) if device.type == "cuda" else int(psutil.Process().memory_info().rss)
    return MemoryUse(needed, sum(storages.values()), whole)


def _shard_bytes(
    tensors: Mapping[str, StoredTensor], config: EngineConfig, world: World, hf_config: Any, skeleton: Any | None
) -> tuple[int, int]:
    """(all weights of this rank, the largest tensor that it reads)"""
    plan: Mapping[str, str] = (getattr(skeleton, "tp_plan", None) or {}) if config.tp > 1 else {}
    parts = config.dp if config.fsdp else 1
    tied = bool(getattr(hf_config, "tie_word_embeddings", False))
    layers = int(getattr(hf_config.get_text_config(), "num_hidden_layers", 0))
    needed = largest = 0
    for name, tensor in tensors.items():
        if not _is_ours(name, world.stage, config.pp, layers, tied):
            continue
        size = tensor.bytes_as(config.dtype)
        largest = max(largest, size)
        # A checkpoint may hold every expert by itself, the model and its plan have them as one.
        divided = ".experts." in name if config.experts else _is_sharded(name, plan)
        needed += (size // config.tp if divided else size) // parts
    return needed, largest


def _is_ours(name: str, stage: int, stages: int, layers: int, tied: bool) -> bool:
    """As transformers divides: equal numbers of layers, the rest to the last; what it does not name is everywhere."""
    if stages == 1:
        return True
    last = stages - 1
    if found := re.search(r"(?:^|\.)layers\.(\d+)\.", name):
        return min(int(found[1]) // max(1, layers // stages), last) == stage
    if ".embed_tokens." in f".{name}":
        return stage == 0 or (tied and stage == last)
    if name.startswith("lm_head.") or re.search(r"(?:^|\.)norm\.", name):
        return stage == last
    return True


def _is_sharded(name: str, plan: Mapping[str, str]) -> bool:
    """A bias after a sum over the ranks is whole on each of them; so is what the plan does not name."""
    generic = re.sub(r"\.\d+(?=\.|$)", ".*", name)
    for key in (generic, generic.rpartition(".")[0]):
        if style := plan.get(key):
            return "replicat" not in style and not (name.endswith(".bias") and style.startswith("rowwise"))
    return False


def _place(device: torch.device) -> int:
    """The same number for all that draw on the same memory."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = f"{boot.read_text() if boot.is_file() else ''}{platform.node()}"
    if device.type == "cuda":
        machine += str(torch.cuda.get_device_properties(device).uuid)
    return int.from_bytes(hashlib.sha256(machine.encode()).digest()[:7], "big")


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [int(psutil.virtual_memory().available), *_cgroup_room()]
    if limit := os.environ.get("PATCHBAY_NODE_MEMORY_BYTES"):
        limits.append(int(limit))
    return min(limits)


def _cgroup_room() -> list[int]:
    """What a container's limit leaves; pages of files that could be dropped count as free."""
    v2 = (_CGROUP_V2 / "memory.max", _CGROUP_V2 / "memory.current", "inactive_file")
    v1 = (_CGROUP_V1 / "memory.limit_in_bytes", _CGROUP_V1 / "memory.usage_in_bytes", "total_inactive_file")
    for limit, usage, droppable in (v2, v1):
        try:
            most, used = limit.read_text().strip(), int(usage.read_text())
            stat = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return [] if most == "max" else [int(most) - used + int(stat.get(droppable, 0))]
    return []


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**27 else f"{amount / 2**20:.2f} MiB"
