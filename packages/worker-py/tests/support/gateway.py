"""A gateway process of our own and a client of it, as an orchestrator would be one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from support.ray_cluster import RayCluster

TOKEN = "gateway-token-of-the-tests"
_START_S = 60.0


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    address: str
    log: Path
    stub: Any

    def call(self, method: str, request: Any, timeout: float = 30) -> Any:
        return getattr(self.stub, method)(request, timeout=timeout, metadata=bearer(TOKEN))

    def deploy(self, name: str, model: str, *, tp: int = 1, timeout: float = 180, **more: Any) -> pb.DeployResponse:
        """The last message: ready or failed."""
        request = pb.DeployRequest(name=name, model=model, tp=tp, **more)
        messages: list[pb.DeployResponse] = list(self.call("Deploy", request, timeout))
        return messages[-1]

    def deploy_ready(self, name: str, model: str, *, tp: int = 1, **more: Any) -> pb.Deployment:
        last = self.deploy(name, model, tp=tp, **more)
        assert last.WhichOneof("event") == "ready", last.failed_json
        ready: pb.Deployment = last.ready
        return ready

    def undeploy(self, name: str) -> bool:
        return bool(self.call("Undeploy", pb.UndeployRequest(name=name)).existed)

    def present(self) -> dict[str, pb.Deployment]:
        watch = self.call("WatchDeployments", pb.WatchDeploymentsRequest())
        try:
            return {each.name: each for each in next(watch).deployments}
        finally:
            watch.cancel()

    def until(self, name: str, wanted: Callable[[pb.Deployment], bool], timeout: float = 60) -> pb.Deployment:
        """Waits, by the watch, until the deployment is as `wanted` says."""
        watch = self.call("WatchDeployments", pb.WatchDeploymentsRequest(), timeout)
        deployment: pb.Deployment
        try:
            for message in watch:
                for deployment in message.deployments:
                    if deployment.name == name and wanted(deployment):
                        return deployment
        finally:
            watch.cancel()
        raise AssertionError("the watch ended")


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def error_of(problem: grpc.RpcError) -> dict[str, Any]:
    """The typed error in the trailer."""
    trailers: Any = problem.trailing_metadata()
    value: dict[str, Any] = json.loads(dict(trailers)["patchbay-error-bin"])
    return value


@contextmanager
def gateway(cluster: RayCluster) -> Iterator[Gateway]:
    log = cluster.folder / f"gateway-{time.monotonic_ns()}.log"
    env = {
        **cluster.env,
        "PATCHBAY_GATEWAY_TOKEN": TOKEN,
        "PATCHBAY_CANCEL_GRACE_S": "2",
        "PATCHBAY_PLACEMENT_WAIT_S": "3",
    }
    command = [sys.executable, "-m", "patchbay_worker.gateway", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        address = _address(process, log)
        with grpc.insecure_channel(address) as channel:
            yield Gateway(process, address, log, worker_pb2_grpc.GatewayStub(channel))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _START_S
    while True:
        text = log.read_text(errors="replace")
        if found := re.search(r"listening on (\S+:\d+)", text):
            return found[1]
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the gateway did not start:\n{text}")
        time.sleep(0.05)
