"""Everything that the gateway asks of Ray; the only caller of ray.init. Blocking calls run outside of the event loop.
Not here: what a deployment is (`deployments.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import ray
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from patchbay_protocol import worker_pb2 as pb
from patchbay_worker.cluster import placement
from patchbay_worker.cluster.spec import DEFAULT_NAMESPACE, GangSpec, ReplicaState, parse_actor_name
from patchbay_worker.cluster.supervisor import CANCEL_GRACE_S, GroupSupervisorActor, SupervisorOptions
from patchbay_worker.errors import error

_STOP_S: Final = 20.0
_CALL_S: Final = 10.0
_GONE_S: Final = 30.0
_CONNECTS: Final = 3
_remote: Any = ray.remote

log = logging.getLogger(__name__)


class Driver:
    """`local_only`: nobody beyond this host is to reach supervisors that run on it."""

    def __init__(self, address: str, *, local_only: bool) -> None:
        self.address: Final = address
        self._local_only = local_only
        self._namespace = os.environ.get("PATCHBAY_RAY_NAMESPACE") or DEFAULT_NAMESPACE
        self._loopback_node: str | None = None

    def connect(self) -> None:
        """RAY_AUTH_MODE and RAY_AUTH_TOKEN(_PATH) of the environment authenticate."""
        for attempt in range(1, _CONNECTS + 1):
            try:
                ray.init(address=self.address, namespace=self._namespace, log_to_driver=False, configure_logging=False)
                break
            except ConnectionError as problem:
                # The head forks a server per Ray Client, which fails now and then.
                if not self.is_client or attempt == _CONNECTS:
                    raise
                log.warning("connecting to %s failed, attempt %d: %s", self.address, attempt, problem)
        if self._local_only and not self.is_client:
            self._loopback_node = ray.get_runtime_context().get_node_id()

    @property
    def is_client(self) -> bool:
        """Through Ray Client this process is outside of the cluster and sees only part of Ray's interface."""
        return self.address.startswith("ray://")

    def disconnect(self) -> None:
        ray.shutdown()

    def reconnect(self) -> None:
        """A new session; handles of the old one are worth nothing in it."""
        ray.shutdown()
        self.connect()

    async def supervisors(self) -> dict[tuple[str, int], Any]:
        """(deployment, replica) -> actor of every replica in the cluster, whoever made it. Raises when Ray is away."""
        names = await asyncio.wait_for(asyncio.to_thread(list_named_actors), _CALL_S)
        found: dict[tuple[str, int], Any] = {}
        for name in names:
            if (identity := parse_actor_name(name)) is not None:
                try:
                    found[identity] = await asyncio.to_thread(ray.get_actor, name, self._namespace)
                except ValueError:
                    continue  # it ended between the two calls
        return found

    async def create(self, spec: GangSpec) -> Any:
        options = SupervisorOptions(
            self._loopback_node,
            float(os.environ.get("PATCHBAY_CANCEL_GRACE_S", CANCEL_GRACE_S)),
            float(os.environ.get("PATCHBAY_PLACEMENT_WAIT_S", placement.WAIT_S)),
        )
        maker = GroupSupervisorActor.options(
            name=spec.actor_name,
            namespace=self._namespace,
            lifetime="detached",
            get_if_exists=True,
            scheduling_strategy=self._near_the_head(),
        )
        return await asyncio.to_thread(maker.remote, spec.to_json(), options)

    def _near_the_head(self) -> Any:
        """Where the gateway is, or the head: a supervisor that outlives the nodes of its ranks can move them."""
        own = None if self.is_client else ray.get_runtime_context().get_node_id()
        heads = [node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
        node = own or next(iter(heads), None)
        return "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)

    async def state_of(self, supervisor: Any, known: int) -> ReplicaState:
        return ReplicaState.from_json(await supervisor.watch.remote(known))

    async def execute(self, supervisor: Any, request: pb.ExecuteRequest) -> list[pb.ExecuteResponse]:
        return [
            pb.ExecuteResponse.FromString(each) for each in await supervisor.execute.remote(request.SerializeToString())
        ]

    async def end(self, spec: GangSpec, supervisor: Any) -> None:
        """Returns when the name and the slots are free again, whether or not the supervisor still answers."""
        try:
            await asyncio.wait_for(_answer(supervisor.stop.remote()), _STOP_S)
        except (TimeoutError, ray.exceptions.RayError):
            await asyncio.to_thread(placement.remove, spec)
        await asyncio.to_thread(ray.kill, supervisor, no_restart=True)
        async with asyncio.timeout(_GONE_S):
            while spec.actor_name in await asyncio.to_thread(list_named_actors):
                await asyncio.sleep(0.05)

    def device_for(self, world_size: int) -> str:
        """PATCHBAY_DEVICE, or CUDA where the cluster has GPUs for the whole gang."""
        wanted = os.environ.get("PATCHBAY_DEVICE", "auto")
        if wanted not in ("auto", "cpu", "cuda"):
            raise error("PB_CONFIG_INVALID", reason=f'PATCHBAY_DEVICE is "{wanted}", not auto, cpu or cuda')
        if wanted != "auto":
            return wanted
        return "cuda" if ray.cluster_resources().get("GPU", 0) >= world_size else "cpu"

    async def describe(self) -> dict[str, Any]:
        nodes = await asyncio.to_thread(ray.nodes)
        free = await self._free_resources()
        return {"nodes": [_node(node, free.get(node["NodeID"], {})) for node in nodes], "versions": _versions()}

    async def _free_resources(self) -> dict[str, dict[str, float]]:
        """By node id."""
        if self.is_client:
            return dict(await _answer(_remote(num_cpus=0)(_free_resources).remote()))
        return await asyncio.to_thread(_free_resources)


def _free_resources() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = ray._private.state.available_resources_per_node()
    return found


async def _answer(reference: Any) -> Any:
    return await reference


def _node(node: dict[str, Any], free: dict[str, float]) -> dict[str, Any]:
    # Ray adds resources like node:10.0.0.1, which say nothing about room.
    resources = {name: amount for name, amount in node["Resources"].items() if ":" not in name}
    used = {name: round(amount - free.get(name, 0.0), 6) for name, amount in resources.items()}
    return {
        "id": node["NodeID"],
        "address": node["NodeManagerAddress"],
        "alive": node["Alive"],
        "resources": resources,
        "used": used if node["Alive"] else {},
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("ray", "torch", "transformers", "grpcio"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
