"""Where the ranks of a gang live: one placement group per gang, found again by name, bundles in an order that gives
ranks a topology. Blocking calls of Ray, to be made outside of an event loop. Not here: the actors in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from patchbay_worker.cluster.spec import GangSpec
from patchbay_worker.errors import error

#: A cluster that is large enough may still be busy with what is just being removed.
_WAIT_S: Final = 30


@dataclass(frozen=True)
class Placement:
    """`bundles[rank]` is the bundle of that rank, `nodes[rank]` the id of its node."""

    group: PlacementGroup
    bundles: tuple[int, ...]
    nodes: tuple[str, ...]


def place(spec: GangSpec, own_node: str) -> Placement:
    """Reserves the gang's slots, or finds those of an earlier supervisor. Raises PB_PLACEMENT_FAILED."""
    group = _find(spec) or _reserve(spec)
    if not group.wait(_WAIT_S):
        remove_placement_group(group)
        raise error("PB_PLACEMENT_FAILED", reason=f"no room for {_wanted(spec)} within {_WAIT_S} s")
    node_of: Mapping[int, str] = placement_group_table(group)["bundles_to_node_id"]
    # PACK gives no order: ranks of one node stay together, and rank 0 is beside its supervisor where that is possible.
    order = sorted(node_of, key=lambda bundle: (node_of[bundle] != own_node, node_of[bundle], bundle))
    return Placement(group, tuple(order), tuple(node_of[bundle] for bundle in order))


def remove(spec: GangSpec) -> None:
    if (group := _find(spec)) is not None:
        remove_placement_group(group)


def _find(spec: GangSpec) -> PlacementGroup | None:
    try:
        group: PlacementGroup = get_placement_group(spec.actor_name)
        return group
    except ValueError:
        return None


def _bundle(spec: GangSpec) -> dict[str, float]:
    return {"CPU": 1.0, "GPU": 1.0} if spec.device == "cuda" else {"CPU": 1.0}


def _wanted(spec: GangSpec) -> str:
    return f"{spec.world_size} x {_words(_bundle(spec))}"


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU") if name in resources) or "nothing"


def _reserve(spec: GangSpec) -> PlacementGroup:
    total: dict[str, Any] = ray.cluster_resources()
    for name, amount in _bundle(spec).items():
        if total.get(name, 0) < amount * spec.world_size:
            raise error("PB_PLACEMENT_FAILED", reason=f"{_wanted(spec)} are needed, the cluster has {_words(total)}")
    # Detached, so that a supervisor that Ray starts again finds the same slots.
    bundles = [_bundle(spec) for _ in range(spec.world_size)]
    group: PlacementGroup = placement_group(bundles, strategy="PACK", name=spec.actor_name, lifetime="detached")
    return group
