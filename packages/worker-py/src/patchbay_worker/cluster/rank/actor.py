"""The Ray actor around a rank: environment, control socket, then the loop until told to leave. Everything that a job
needs arrives over the control socket, not through Ray. Not here: the loop (`loop.py`), torch at import.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import ray

from patchbay_worker.artifacts.reach import require_reachable
from patchbay_worker.cluster.rank.loop import Hello, RankLoop
from patchbay_worker.frames import FrameSocket

if TYPE_CHECKING:
    from patchbay_worker.engine.engine import Engine

log = logging.getLogger(__name__)

#: Pings come every second; without any for this long the supervisor is gone or cut off.
SILENCE_S: Final = 30.0
_CONNECT_S: Final = 10.0


@dataclass(frozen=True)
class RankOrder:
    """Which rank of which epoch an actor is, and where its supervisor listens."""

    rank: int
    epoch: int
    token: str
    host: str
    port: int


class Rank:
    """One torch process of a gang. It is never restarted alone: its process group would be gone."""

    def run(self, order: RankOrder) -> None:
        """Occupies the actor's main thread for the life of the rank."""
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        os.environ["OMP_NUM_THREADS"] = "1"
        sock = socket.create_connection((order.host, order.port), timeout=_CONNECT_S)
        sock.settimeout(SILENCE_S)
        address = sock.getsockname()[0]
        hello = Hello(order.rank, order.epoch, order.token, os.getpid(), address, _free_port(address))
        RankLoop(FrameSocket(sock), hello, load_engine, _leave).run()


_remote: Any = ray.remote
RankActor: Any = _remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Rank)


def load_engine(order: dict[str, Any], on_weights: Callable[[float], None]) -> Engine:
    """Imports torch and the engine, joins the torch world and loads this rank's shard."""
    if order["masterAddr"] != "127.0.0.1":
        _use_interface_of(order["address"])
    if order["rank"] == 0 and order["artifactUrl"]:
        require_reachable(order["artifactUrl"], order["address"])
    module = importlib.import_module(os.environ.get("PATCHBAY_ENGINE_MODULE", "patchbay_worker.engine.engine"))
    config = module.EngineConfig(
        model_path=order["model"],
        name=order["deployment"],
        tp=order["tp"],
        pp=order["pp"],
        dp=order["dp"],
        fsdp=order["fsdp"],
        experts=order["experts"],
        dtype=order["dtype"],
        rank=order["rank"],
        world_size=order["worldSize"],
        master_addr=order["masterAddr"],
        master_port=order["masterPort"],
        device=order["device"],
    )
    engine: Engine = module.Engine(config, on_weights)
    return engine


def _leave(reason: str) -> NoReturn:
    """At once and without clean-up: other threads may be inside of a collective that never ends."""
    log.warning("this rank leaves: %s", reason)
    sys.stderr.flush()
    os._exit(3)


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _use_interface_of(address: str) -> None:
    """gloo would take the interface that the host's name resolves to, which peers may not reach."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
