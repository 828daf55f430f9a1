"""Where the ranks of a gang live: one placement group per gang, found again by name, bundles in an order that gives
ranks a topology. Blocking calls of Ray, to be made outside of an event loop. Not here: the actors in it, whether a
shard fits its node to the byte (engine/memory.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
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

from patchbay_worker.cluster.spec import PLACEMENTS, GangSpec
from patchbay_worker.engine.checkpoint_size import stored_tensors, total_bytes
from patchbay_worker.errors import error

#: A cluster that is large enough may still be busy with what is just being removed.
WAIT_S: Final = 30.0


@dataclass(frozen=True)
class Placement:
    """`bundles[rank]` is the bundle of that rank, `nodes[rank]` the id of its node."""

    group: PlacementGroup
    bundles: tuple[int, ...]
    nodes: tuple[str, ...]
    bytes_per_rank: int = 0


def place(spec: GangSpec, own_node: str, *, avoid: Collection[str] = (), wait_s: float = WAIT_S) -> Placement:
    """Reserves the gang's slots, or finds those of an earlier epoch. Nodes to avoid have stopped answering.

    Raises PB_PLACEMENT_FAILED with what is needed and what there is.
    """
    group = _find(spec)
    if group is not None and _uses(group, avoid):
        remove_placement_group(group)
        group = None
    bundle = _bundle(spec)
    if group is None:
        group = _reserve(spec, bundle, avoid)
    if not group.wait(wait_s):
        remove_placement_group(group)
        raise error("PB_PLACEMENT_FAILED", reason=f"{_wanted(spec, bundle)} are needed; free is {_free(avoid)}")
    table = placement_group_table(group)
    node_of: Mapping[int, str] = table["bundles_to_node_id"]
    # PACK gives no order: ranks of one node stay together, and rank 0 is beside its supervisor where that is possible.
    order = sorted(node_of, key=lambda index: (node_of[index] != own_node, node_of[index], index))
    reserved = int(table["bundles"][order[0]].get("memory", 0))
    return Placement(group, tuple(order), tuple(node_of[index] for index in order), reserved)


def remove(spec: GangSpec) -> None:
    if (group := _find(spec)) is not None:
        remove_placement_group(group)


def _find(spec: GangSpec) -> PlacementGroup | None:
    try:
        group: PlacementGroup = get_placement_group(spec.actor_name)
        return group
    except ValueError:
        return None


def _uses(group: PlacementGroup, nodes: Collection[str]) -> bool:
    return bool(nodes) and not set(placement_group_table(group)["bundles_to_node_id"].values()).isdisjoint(nodes)


def _bundle(spec: GangSpec) -> dict[str, float]:
    """Memory is the even share of the weights, which no mesh can go below: two deployments must not count on the same.

    GPU memory is no resource of Ray's: a rank has a whole device.
    """
    slots: dict[str, float] = {"CPU": spec.cpus_per_rank}
    if spec.device == "cuda":
        return {**slots, "GPU": 1.0}
    tensors = stored_tensors(spec.model)
    if tensors is None:
        return slots
    return {**slots, "memory": math.ceil(total_bytes(tensors, spec.dtype) / (spec.tp * spec.pp))}


def _reserve(spec: GangSpec, bundle: dict[str, float], avoid: Collection[str]) -> PlacementGroup:
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in avoid}
    if not _ever_fits(spec, bundle, list(nodes.values())):
        have = "; ".join(_words(resources, bundle) for resources in nodes.values()) or "nothing"
        reason = f"{_wanted(spec, bundle)} are needed; the cluster's {len(nodes)} nodes have {have}"
        raise error("PB_PLACEMENT_FAILED", reason=reason)
    selector = {"ray.io/node-id": f"!in({', '.join(sorted(avoid))})"} if avoid else {}
    # Detached, so that a supervisor that Ray starts again finds the same slots.
    group: PlacementGroup = placement_group(
        [bundle] * spec.world_size,
        strategy=PLACEMENTS[spec.placement],
        name=spec.actor_name,
        lifetime="detached",
        bundle_label_selector=[selector] * spec.world_size if avoid else None,
    )
    return group


def _ever_fits(spec: GangSpec, bundle: Mapping[str, float], nodes: list[Mapping[str, float]]) -> bool:
    """Were the cluster empty. All bundles are the same, so counting per node decides."""

    def room(node: Mapping[str, float]) -> int:
        # A fraction of a slot must not be lost to rounding: ten times 0.1 is one.
        return min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in bundle.items() if amount > 0)

    rooms = [room(node) for node in nodes]
    if spec.placement == "strict-pack":
        return max(rooms, default=0) >= spec.world_size
    if spec.placement == "strict-spread":
        return sum(count > 0 for count in rooms) >= spec.world_size
    return sum(rooms) >= spec.world_size


def _wanted(spec: GangSpec, bundle: Mapping[str, float]) -> str:
    how = {"strict-pack": " on one node", "strict-spread": " on as many nodes"}.get(spec.placement, "")
    return f"{spec.world_size} x {_words(bundle, bundle)}{how}"


def _free(avoid: Collection[str]) -> str:
    available: dict[str, dict[str, Any]] = ray._private.state.available_resources_per_node()
    names = ("CPU", "GPU", "memory")
    nodes = [
        _words(free, {name: 1 for name in names if name in free}) for id, free in available.items() if id not in avoid
    ]
    return "; ".join(nodes) or "nothing"


def _words(resources: Mapping[str, float], names: Mapping[str, float]) -> str:
    def one(name: str) -> str:
        amount = resources.get(name, 0)
        return f"{amount / 2**30:.3g} GiB of memory" if name == "memory" else f"{amount:g} {name}"

    return ", ".join(one(name) for name in names) or "nothing"
