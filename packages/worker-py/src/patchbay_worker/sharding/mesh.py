"""The mesh of one gang and which meshes are served. Not here: process groups (engine/world.py)."""

from __future__ import annotations

from dataclasses import dataclass

from patchbay_worker.errors import error


@dataclass(frozen=True)
class Mesh:
    """Sizes of the axes (pp, dp, tp), row-major, tp fastest."""

    pp: int
    dp: int
    tp: int

    @property
    def size(self) -> int:
        return self.pp * self.dp * self.tp

    def to_json(self) -> dict[str, int]:
        return {"pp": self.pp, "dp": self.dp, "tp": self.tp}


def check_mesh(mesh: Mesh, world_size: int) -> None:
    """Refuses what the engine cannot serve, before any rank loads a weight."""
    if mesh.pp > 1 or mesh.dp > 1:
        axis = "pipeline stages" if mesh.pp > 1 else "data parallel copies"
        raise error("PB_MESH_UNSUPPORTED", pp=mesh.pp, dp=mesh.dp, tp=mesh.tp, reason=f"{axis} are not served yet")
    if min(mesh.pp, mesh.dp, mesh.tp) < 1 or mesh.size != world_size:
        reason = f"it needs {mesh.size} ranks, there are {world_size}"
        raise error("PB_MESH_UNSUPPORTED", pp=mesh.pp, dp=mesh.dp, tp=mesh.tp, reason=reason)
