"""The mesh of one gang, which meshes are served, and who is where on it. Not here: process groups (engine/world.py)."""

from __future__ import annotations

from dataclasses import dataclass

from patchbay_worker.errors import error


@dataclass(frozen=True)
class Mesh:
    """Sizes of the axes (pp, dp, tp), row-major, tp fastest: rank = (pp index * dp + dp index) * tp + tp index.

    With `fsdp` the copies share one set of weights, each holding a part; with `experts` tp divides the experts only.
    """

    pp: int
    dp: int
    tp: int
    fsdp: bool = False
    experts: bool = False

    @property
    def size(self) -> int:
        return self.pp * self.dp * self.tp

    def place(self, rank: int) -> tuple[int, int, int]:
        """(pp index, dp index, tp index)"""
        return rank // (self.dp * self.tp), rank // self.tp % self.dp, rank % self.tp

    def rank(self, stage: int, copy: int = 0, shard: int = 0) -> int:
        return (stage * self.dp + copy) * self.tp + shard

    def tp_groups(self) -> list[list[int]]:
        """The ranks of every copy of every stage."""
        return [
            [self.rank(stage, copy, shard) for shard in range(self.tp)]
            for stage in range(self.pp)
            for copy in range(self.dp)
        ]

    def dp_groups(self) -> list[list[int]]:
        """The ranks that hold the same shard in every copy of a stage."""
        return [
            [self.rank(stage, copy, shard) for copy in range(self.dp)]
            for stage in range(self.pp)
            for shard in range(self.tp)
        ]

    def to_json(self) -> dict[str, int | bool]:
        sizes: dict[str, int | bool] = {"pp": self.pp, "dp": self.dp, "tp": self.tp}
        flags = {"fsdp": self.fsdp, "expertParallel": self.experts}
        return sizes | {name: True for name, is_on in flags.items() if is_on}


def check_mesh(mesh: Mesh, world_size: int) -> None:
    """Refuses what the engine cannot serve, before any rank loads a weight."""
    reason = None
    if min(mesh.pp, mesh.dp, mesh.tp) < 1 or mesh.size != world_size:
        reason = f"it needs {mesh.size} ranks, there are {world_size}"
    elif mesh.pp > 1 and mesh.fsdp:
        reason = "transformers does not combine FSDP with pipeline stages"
    elif mesh.fsdp and mesh.dp == 1:
        reason = "FSDP needs two ranks or more to share the weights"
    elif mesh.experts and mesh.tp == 1:
        reason = "expert parallelism divides the experts over the tp ranks, and there is one"
    elif mesh.experts and mesh.pp > 1:
        reason = "expert parallelism together with pipeline stages is not served"
    elif mesh.pp > 1 and mesh.dp > 1:
        reason = "pipeline stages together with data parallel copies are not served; use replicas for copies"
    if reason is not None:
        raise error("PB_MESH_UNSUPPORTED", pp=mesh.pp, dp=mesh.dp, tp=mesh.tp, reason=reason)
