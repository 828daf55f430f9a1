"""Deployments through the gateway: placed, found again, refused, removed."""

from __future__ import annotations

import json
from typing import Any

import grpc
import psutil
import pytest

from patchbay_protocol import worker_pb2 as pb
from support.documents import job
from support.gang_client import gang_client
from support.gateway import Gateway, error_of, gateway
from support.ray_cluster import RayCluster


def ranks_of(replica: pb.Replica) -> list[dict[str, Any]]:
    ranks: list[dict[str, Any]] = json.loads(replica.ranks_json)
    return ranks


def test_deploy_tells_its_progress_and_the_ranks(gate: Gateway) -> None:
    request = pb.DeployRequest(name="told", model="fake:model", tp=2)
    messages = list(gate.call("Deploy", request, 120))
    phases = [json.loads(each.progress_json)["phase"] for each in messages[:-1]]
    assert phases[-1] == "load"  # earlier ones may fall together with it
    assert set(phases) <= {"place", "ranks", "load"}
    read = [json.loads(each.progress_json).get("fraction", 0) for each in messages[:-1]]
    assert read == sorted(read)
    assert 0 < read[-1] <= 1
    ready = messages[-1].ready
    assert json.loads(ready.description_json)["name"] == "told"
    (replica,) = ready.replicas
    assert (replica.state, replica.epoch) == (pb.REPLICA_STATE_READY, 1)
    assert replica.address.startswith("127.0.0.1:")
    assert [rank["rank"] for rank in ranks_of(replica)] == [0, 1]
    pids = [rank["pid"] for rank in ranks_of(replica)]
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert gate.undeploy("told")
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not alive
    assert "told" not in gate.present()
    assert not gate.undeploy("told"), "it did not exist any more"


def test_the_same_deployment_again_is_the_first_and_another_is_refused(gate: Gateway) -> None:
    first = gate.deploy_ready("twice", "fake:model")
    again = gate.deploy_ready("twice", "fake:model")
    assert ranks_of(again.replicas[0]) == ranks_of(first.replicas[0])
    other = gate.deploy("twice", "fake:model", tp=2)
    assert json.loads(other.failed_json)["code"] == "PB_MODEL_EXISTS"
    assert gate.present()["twice"].replicas[0].token == first.replicas[0].token
    gate.undeploy("twice")


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("fake:indivisible", "PB_NOT_DIVISIBLE", "num_attention_heads"),
        ("fake:broken", "PB_MODEL_LOAD_FAILED", "connection closed by peer"),
    ],
)
def test_a_model_that_cannot_load_fails_with_the_ranks_own_error(
    gate: Gateway, model: str, code: str, words: str
) -> None:
    last = gate.deploy("unloadable", model, tp=2)
    problem = json.loads(last.failed_json)
    assert problem["code"] == code
    assert words in problem["message"]
    assert "unloadable" not in gate.present()
    gate.deploy_ready("unloadable", "fake:model", tp=2)  # name and slots are free again
    gate.undeploy("unloadable")


def test_a_mesh_that_never_fits_is_refused(gate: Gateway) -> None:
    problem = json.loads(gate.deploy("huge", "fake:model", tp=64).failed_json)
    assert problem["code"] == "PB_PLACEMENT_FAILED"
    assert "64 x 1 CPU" in problem["message"]
    assert "huge" not in gate.present()


def test_replicas_are_gangs_of_their_own(gate: Gateway) -> None:
    ready = gate.deploy_ready("many", "fake:model", replicas=2)
    assert [replica.index for replica in ready.replicas] == [0, 1]
    assert len({replica.address for replica in ready.replicas}) == 2
    for replica in ready.replicas:
        with gang_client(replica) as client:
            assert client.run("same-id", job())["timings"]["executed"] == 1
    gate.undeploy("many")


def test_another_gateway_finds_everything_again(cluster: RayCluster, gate: Gateway) -> None:
    first = gate.deploy_ready("kept", "fake:model")
    with gateway(cluster) as later:
        found = later.until("kept", lambda deployment: deployment.replicas[0].token != "")
        assert found.replicas[0].token == first.replicas[0].token
        assert later.deploy_ready("kept", "fake:model").replicas[0].epoch == 1
        assert later.undeploy("kept")
    watch = gate.call("WatchDeployments", pb.WatchDeploymentsRequest(), 60)
    assert any("kept" not in {each.name for each in message.deployments} for message in watch)
    watch.cancel()


def test_the_cluster_is_described(gate: Gateway) -> None:
    described = json.loads(gate.call("DescribeCluster", pb.DescribeClusterRequest()).cluster_json)
    (node,) = described["nodes"]
    assert node["alive"]
    assert node["resources"]["CPU"] == 8
    assert described["versions"]["ray"]
    health = gate.call("Health", pb.HealthRequest())
    assert (health.protocol_version, health.ray_connected) == ("v1", True)


def test_without_the_token_nothing_is_told(gate: Gateway) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        gate.stub.Health(pb.HealthRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert error_of(caught.value)["code"] == "PB_UNAUTHORIZED"


def test_a_second_gateway_cannot_take_the_port(cluster: RayCluster, gate: Gateway) -> None:
    import subprocess
    import sys

    port = gate.address.rpartition(":")[2]
    command = [sys.executable, "-m", "patchbay_worker.gateway", "--port", port]
    ended = subprocess.run(command, env=dict(cluster.env), capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "bind" in ended.stderr.decode()
