"""What the gateway answers when Ray fails it: typed errors, which tell an orchestrator whether to try again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RaySystemError

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from patchbay_worker.errors import error
from patchbay_worker.gateway.server import GatewayService
from support.gateway import error_of

AWAY = [
    RayActorError(),
    ActorUnavailableError("the actor is restarting", None),
    GetTimeoutError(),
    RaySystemError("the GCS is away"),
    ConnectionError("the session of Ray Client is closed"),
    TimeoutError(),
]


class Failing:
    """A driver and its deployments, all of whose calls to Ray fail."""

    address = "ray://nowhere"

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    async def _fail(self, *_: Any) -> Any:
        raise self._problem

    describe = deploy = undeploy = execute = _fail

    def device_for(self, _: int) -> str:
        return "cpu"

    def supervisor(self, name: str, _: int) -> object:
        if name == "unknown":
            raise error("PB_MODEL_NOT_FOUND", model=name)
        return object()


def answer(problem: Exception, call: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a client gets of a gateway whose Ray fails so."""

    async def ask() -> Any:
        failing: Any = Failing(problem)
        server = grpc.aio.server()
        worker_pb2_grpc.add_GatewayServicer_to_server(GatewayService(failing, failing, ""), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await call(worker_pb2_grpc.GatewayStub(channel))
        except grpc.aio.AioRpcError as refused:
            return refused
        finally:
            await server.stop(None)

    return asyncio.run(ask())


async def execute_via(stub: Any, name: str = "m") -> Any:
    request = pb.ExecuteRequest(key=pb.JobKey(job_id="j", attempt=1, epoch=7))
    return await stub.ExecuteVia(pb.ExecuteViaRequest(deployment=name, request=request)).read()


async def deploy(stub: Any) -> Any:
    return json.loads((await stub.Deploy(pb.DeployRequest(name="m", model="/m")).read()).failed_json)


@pytest.mark.parametrize("problem", AWAY, ids=lambda each: type(each).__name__)
def test_a_job_on_the_way_through_is_lost_with_its_gang_and_may_be_tried_again(problem: Exception) -> None:
    refused = answer(problem, execute_via)
    told = error_of(refused)
    assert (told["code"], told["retryable"]) == ("PB_GANG_LOST", True)
    assert type(problem).__name__ in told["message"]
    assert "7" in told["message"], "the epoch"
    assert refused.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("problem", AWAY, ids=lambda each: type(each).__name__)
def test_what_is_asked_of_the_cluster_says_that_ray_is_away(problem: Exception) -> None:
    deployed = answer(problem, deploy)
    described = answer(problem, lambda stub: stub.DescribeCluster(pb.DescribeClusterRequest()))
    removed = answer(problem, lambda stub: stub.Undeploy(pb.UndeployRequest(name="m")))
    for told in (deployed, error_of(described), error_of(removed)):
        assert (told["code"], told["retryable"]) == ("PB_GATEWAY_UNAVAILABLE", True)
        assert type(problem).__name__ in told["message"]


def test_what_is_no_fault_of_ray_says_so() -> None:
    assert answer(ValueError("ours"), deploy)["code"] == "PB_INTERNAL"
    unknown = answer(ValueError(), lambda stub: execute_via(stub, "unknown"))
    assert error_of(unknown)["code"] == "PB_MODEL_NOT_FOUND"
    assert not ray.is_initialized(), "none of this has asked Ray"
