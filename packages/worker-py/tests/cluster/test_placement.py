"""Slots of real Ray: fractions, deployments side by side, replicas, memory. Refusals name what is needed and free."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from patchbay_protocol import worker_pb2 as pb
from support.checkpoints import make_checkpoint
from support.fake_engine import ENVIRONMENT
from support.gateway import Gateway, gateway
from support.ray_cluster import free_ports, ray_cluster


def ranks_of(replica: pb.Replica) -> list[dict[str, Any]]:
    ranks: list[dict[str, Any]] = json.loads(replica.ranks_json)
    return ranks


def refusal(gate: Gateway, name: str, model: str = "fake:model", **more: Any) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(gate.deploy(name, model, **more).failed_json)
    assert name not in gate.present()
    return problem


def used(gate: Gateway, resource: str) -> float:
    (node,) = json.loads(gate.call("DescribeCluster", pb.DescribeClusterRequest()).cluster_json)["nodes"]
    return float(node["used"].get(resource, 0))


def all_is_free(gate: Gateway) -> bool:
    """Also when a test before has just given its slots back: that reaches the head's table a moment later."""
    until = time.monotonic() + 20
    while used(gate, "CPU") > 0 and time.monotonic() < until:
        time.sleep(0.1)
    return used(gate, "CPU") == 0


def test_ranks_take_fractions_of_a_slot(gate: Gateway) -> None:
    assert all_is_free(gate)
    gate.deploy_ready("quarter", "fake:model", tp=2, cpus_per_rank=0.25)
    try:
        assert used(gate, "CPU") == 0.5
    finally:
        gate.undeploy("quarter")
    assert all_is_free(gate)


def test_what_is_free_now_is_told_when_others_hold_the_rest(gate: Gateway) -> None:
    gate.deploy_ready("holds", "fake:model", cpus_per_rank=7)
    problem = refusal(gate, "late", tp=2)
    assert problem["code"] == "PB_PLACEMENT_FAILED"
    assert "2 x 1 CPU" in problem["message"]
    assert "free is 1 CPU" in problem["message"]
    small = gate.deploy_ready("beside", "fake:model", cpus_per_rank=1)
    assert len(ranks_of(small.replicas[0])) == 1
    for name in ("holds", "beside"):
        gate.undeploy(name)
    gate.deploy_ready("late", "fake:model", tp=2)
    gate.undeploy("late")


def test_of_replicas_that_do_not_all_fit_none_stays(gate: Gateway) -> None:
    problem = refusal(gate, "many", replicas=3, cpus_per_rank=3)
    assert problem["code"] == "PB_PLACEMENT_FAILED"
    gate.deploy_ready("two", "fake:model", replicas=2, cpus_per_rank=4)
    gate.undeploy("two")


def test_a_strict_spread_wants_as_many_nodes_as_ranks(gate: Gateway) -> None:
    problem = refusal(gate, "apart", tp=2, placement="strict-spread")
    assert "2 x 1 CPU on as many nodes are needed; the cluster's 1 nodes have 8 CPU" in problem["message"]


def test_a_model_larger_than_the_memory_is_refused_by_its_headers(gate: Gateway, tmp_path: Path) -> None:
    huge_header(tmp_path / "model.safetensors", 40 * 2**40)
    problem = refusal(gate, "huge", str(tmp_path), tp=2)
    assert problem["code"] == "PB_PLACEMENT_FAILED"
    assert "2 x 1 CPU, 2.05e+04 GiB of memory" in problem["message"]


def huge_header(file: Path, size: int) -> None:
    """The header of 40 TiB of weights, and none of them."""
    save_file({"w": torch.zeros(1)}, file)
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.fixture
def results() -> Iterator[str]:
    """An address that answers."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_results_must_have_a_way_home(gate: Gateway, results: str) -> None:
    (port,) = free_ports(1)
    problem = refusal(gate, "homeless", artifact_url=f"http://127.0.0.1:{port}", tp=2)
    assert problem["code"] == "PB_ARTIFACT_URL_UNREACHABLE"
    assert "Connection refused" in problem["message"]
    gate.deploy_ready("homely", "fake:model", artifact_url=results)
    gate.undeploy("homely")


def test_memory_is_told_as_needed_and_as_measured(gate: Gateway, tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, "llama")
    (replica,) = gate.deploy_ready("weighed", str(path), tp=2).replicas
    gate.undeploy("weighed")
    stored = (path / "model.safetensors").stat().st_size
    for rank in ranks_of(replica):
        memory = rank["memory"]
        assert stored / 2 <= memory["neededBytes"] < stored
        buffers = memory["heldBytes"] - memory["neededBytes"]
        assert 0 <= buffers < 4096, "exactly the weights, and the few numbers that no file has"
        assert memory["processBytes"] > memory["heldBytes"]


def test_metrics_tell_what_the_supervisors_told(gate: Gateway) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from patchbay_worker.cluster.spec import ReplicaState
    from patchbay_worker.gateway.metrics import METRICS, ClusterCollector

    replica = gate.deploy_ready("seen", "fake:model", tp=2).replicas[0]
    gate.undeploy("seen")
    state = ReplicaState({"replica": 0}, replica.epoch, state="ready", ranks=ranks_of(replica))
    registry = CollectorRegistry()
    registry.register(ClusterCollector(lambda: {"seen": [state]}, lambda: ""))
    text = generate_latest(registry).decode()
    assert 'patchbay_replicas{model="seen",state="ready"} 1.0' in text
    assert 'patchbay_rank_process_bytes{model="seen",rank="1",replica="0"} 0.0' in text
    assert all(f"# HELP {name} " in text for name in METRICS)


def test_a_shard_that_the_node_cannot_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, "llama")
    limit = {**ENVIRONMENT, "PATCHBAY_NODE_MEMORY_BYTES": "200000"}
    with ray_cluster(extra_env=limit) as cluster, gateway(cluster) as gate:
        problem = refusal(gate, "too-large", str(path), tp=2)
        assert problem["code"] == "PB_MEMORY"
        assert "0.19 MiB are free on the node of ranks 0, 1" in problem["message"]
