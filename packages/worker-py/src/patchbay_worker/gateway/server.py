"""The Gateway service: messages of worker.proto <-> deployments and driver. Not here: what a call does."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc.aio
import ray

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from patchbay_worker.cluster.grpc_errors import abort, require_token
from patchbay_worker.cluster.spec import PLACEMENTS, PROTOCOL_VERSION, GangSpec, ReplicaState
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.gateway.deployments import Deployments
from patchbay_worker.gateway.driver import Driver

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_STATES: Final = {
    "starting": pb.REPLICA_STATE_STARTING,
    "ready": pb.REPLICA_STATE_READY,
    "restarting": pb.REPLICA_STATE_RESTARTING,
    "failed": pb.REPLICA_STATE_FAILED,
}
#: What Ray raises when it is away, whatever was asked of it; a broken Ray Client raises the last two.
_RAY_AWAY: Final = (ray.exceptions.RayError, ConnectionError, TimeoutError)
_DTYPES: Final = ("float32", "bfloat16", "float16")


class GatewayService(worker_pb2_grpc.GatewayServicer):
    """An empty token lets everybody in."""

    def __init__(self, driver: Driver, deployments: Deployments, token: str) -> None:
        self._driver = driver
        self._deployments = deployments
        self._token = token

    async def DescribeCluster(self, request: pb.DescribeClusterRequest, context: Context) -> pb.DescribeClusterResponse:
        await require_token(context, self._token)
        try:
            return pb.DescribeClusterResponse(cluster_json=json.dumps(await self._driver.describe()))
        except _RAY_AWAY as problem:
            await abort(context, self._away(problem))

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:
        await require_token(context, self._token)
        trouble = self._deployments.trouble
        return pb.HealthResponse(protocol_version=PROTOCOL_VERSION, ray_connected=not trouble, reason=trouble)

    async def Deploy(self, request: pb.DeployRequest, context: Context) -> AsyncIterator[pb.DeployResponse]:
        await require_token(context, self._token)
        phases: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        # A caller that goes away does not stop it: asked again, it finds the same deployment.
        work = asyncio.create_task(self._deploy(request, phases))
        while (phase := await phases.get()) is not None:
            yield pb.DeployResponse(progress_json=json.dumps(phase))
        yield await work

    async def _deploy(
        self, request: pb.DeployRequest, phases: asyncio.Queue[dict[str, Any] | None]
    ) -> pb.DeployResponse:
        try:
            wanted = self._spec(request)
            states = await self._deployments.deploy(wanted, phases.put_nowait)
            return pb.DeployResponse(ready=_deployment(wanted.deployment, states))
        except PatchbayError as problem:
            return pb.DeployResponse(failed_json=json.dumps(problem.to_json()))
        except _RAY_AWAY as problem:
            # Says nothing of the model: whether it comes up is seen when Ray is back.
            return pb.DeployResponse(failed_json=json.dumps(self._away(problem).to_json()))
        except Exception as problem:
            log.exception("deploying %s failed", request.name)
            reason = f"{type(problem).__name__}: {problem}"
            return pb.DeployResponse(failed_json=json.dumps(error("PB_INTERNAL", reason=reason).to_json()))
        finally:
            phases.put_nowait(None)

    def _spec(self, request: pb.DeployRequest) -> GangSpec:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", request.name):
            raise error("PB_REQUEST_INVALID", path="name", reason=f'"{request.name}" is no name of a deployment')
        if not request.model:
            raise error("PB_REQUEST_INVALID", path="model", reason="it is empty")
        if request.dtype not in ("", *_DTYPES):
            raise error("PB_REQUEST_INVALID", path="dtype", reason=f"{request.dtype} is none of {', '.join(_DTYPES)}")
        if request.placement not in ("", *PLACEMENTS):
            reason = f"{request.placement} is none of {', '.join(PLACEMENTS)}"
            raise error("PB_REQUEST_INVALID", path="placement", reason=reason)
        pp, dp, tp = (max(1, size) for size in (request.pp, request.dp, request.tp))
        return GangSpec(
            deployment=request.name,
            replica=0,
            model=request.model,
            dtype=request.dtype or _DTYPES[0],
            pp=pp,
            dp=dp,
            tp=tp,
            fsdp=request.fsdp,
            experts=request.expert_parallel,
            replicas=max(1, request.replicas),
            device=self._driver.device_for(pp * dp * tp),
            cpus_per_rank=request.cpus_per_rank or 1.0,
            placement=request.placement or "pack",
            artifact_url=request.artifact_url,
        )

    async def Undeploy(self, request: pb.UndeployRequest, context: Context) -> pb.UndeployResponse:
        await require_token(context, self._token)
        try:
            return pb.UndeployResponse(existed=await self._deployments.undeploy(request.name))
        except _RAY_AWAY as problem:
            await abort(context, self._away(problem))

    async def WatchDeployments(
        self, request: pb.WatchDeploymentsRequest, context: Context
    ) -> AsyncIterator[pb.WatchDeploymentsResponse]:
        await require_token(context, self._token)
        async for present in self._deployments.changes():
            deployments = [_deployment(name, states) for name, states in present.items()]
            yield pb.WatchDeploymentsResponse(deployments=deployments)

    async def ExecuteVia(self, request: pb.ExecuteViaRequest, context: Context) -> AsyncIterator[pb.ExecuteResponse]:
        await require_token(context, self._token)
        try:
            supervisor = self._deployments.supervisor(request.deployment, request.replica)
            updates = await self._driver.execute(supervisor, request.request)
        except PatchbayError as problem:
            await abort(context, problem)
        except _RAY_AWAY as problem:
            epoch = request.request.key.epoch
            await abort(
                context, error("PB_GANG_LOST", model=request.deployment, epoch=epoch, reason=_first_line(problem))
            )
        for update in updates:
            yield update

    def _away(self, problem: Exception) -> PatchbayError:
        reason = f"Ray did not answer: {_first_line(problem)}"
        return error("PB_GATEWAY_UNAVAILABLE", address=self._driver.address, reason=reason)


def _first_line(problem: Exception) -> str:
    """Its kind too: some of Ray's have no words."""
    return f"{type(problem).__name__}: {problem}".strip().splitlines()[0]


def _deployment(name: str, states: Sequence[ReplicaState]) -> pb.Deployment:
    described = next((state.description for state in states if state.description), "")
    return pb.Deployment(name=name, replicas=[_replica(state) for state in states], description_json=described)


def _replica(state: ReplicaState) -> pb.Replica:
    return pb.Replica(
        index=int(state.spec["replica"]),
        epoch=state.epoch,
        state=_STATES[state.state],
        address=state.address,
        token=state.token,
        reason_json=json.dumps(state.reason) if state.reason else "",
        ranks_json=json.dumps(state.ranks) if state.ranks else "",
    )
