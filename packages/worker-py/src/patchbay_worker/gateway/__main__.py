"""`python -m patchbay_worker.gateway --port N [--host H]`: runs until SIGTERM or SIGINT, or until Ray is gone (exit 1).

Environment: RAY_ADDRESS and Ray's own token settings, PATCHBAY_GATEWAY_TOKEN, PATCHBAY_DEVICE
(auto, cpu, cuda), PATCHBAY_CANCEL_GRACE_S (how long a cancelled job may take to stop before it costs its gang),
PATCHBAY_PLACEMENT_WAIT_S (how long a deployment may wait for slots), PATCHBAY_RAY_NAMESPACE, PATCHBAY_REMOVE_ON_STOP
(1: a stop takes every deployment of the namespace off the cluster), PATCHBAY_METRICS_PORT (Prometheus; off without).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import Final

import grpc.aio

from patchbay_protocol import worker_pb2_grpc
from patchbay_worker.cluster.grpc_errors import SERVER_OPTIONS
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.gateway.deployments import Deployments
from patchbay_worker.gateway.driver import Driver
from patchbay_worker.gateway.metrics import serve_metrics
from patchbay_worker.gateway.server import GatewayService

#: Removing what runs in a foreign cluster takes its time.
_STOP_S: Final = 40.0

log = logging.getLogger("patchbay.gateway")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m patchbay_worker.gateway", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one; the log names it")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this host only)")
    return parser.parse_args()


async def _serve(host: str, port: int, stopping: asyncio.Event) -> int:
    local_only = host in ("127.0.0.1", "localhost", "::1")
    token = os.environ.get("PATCHBAY_GATEWAY_TOKEN", "")
    if not (local_only or token):
        reason = f"the gateway would be open to the network on {host}: set PATCHBAY_GATEWAY_TOKEN"
        raise error("PB_CONFIG_INVALID", reason=reason)
    driver = Driver(os.environ.get("RAY_ADDRESS", "auto"), local_only=local_only)
    await asyncio.to_thread(driver.connect)
    deployments = Deployments(driver)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    service = GatewayService(driver, deployments, token)
    worker_pb2_grpc.add_GatewayServicer_to_server(service, server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    log.info("listening on %s:%d", host, bound)
    if metrics_port := os.environ.get("PATCHBAY_METRICS_PORT"):
        serve_metrics(host, int(metrics_port), deployments.present, lambda: deployments.trouble)
    following = asyncio.create_task(deployments.follow())
    ends = [asyncio.create_task(event.wait()) for event in (stopping, deployments.lost)]
    await asyncio.wait([following, *ends], return_when=asyncio.FIRST_COMPLETED)
    following.cancel()
    await server.stop(grace=0.5)
    if stopping.is_set() and os.environ.get("PATCHBAY_REMOVE_ON_STOP") == "1":
        await deployments.remove_all()
    await asyncio.to_thread(driver.disconnect)
    return 0 if stopping.is_set() else 1


async def _main() -> int:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(_serve(arguments.host, arguments.port, stopping))
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        return serving.result()
    # ray.init of a cluster that is away blocks for a minute; a stop does not wait for it.
    done, _ = await asyncio.wait([serving], timeout=_STOP_S)
    return serving.result() if done else 0


if __name__ == "__main__":
    # Threads of Ray may be stuck in calls to a cluster that is gone; nothing here needs an orderly end.
    try:
        code = asyncio.run(_main())
    except PatchbayError as problem:
        log.error("%s", problem)
        code = 2
    logging.shutdown()
    os._exit(code)
