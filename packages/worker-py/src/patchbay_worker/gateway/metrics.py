"""What Prometheus can ask the gateway: what the cluster has, told by the supervisors, in names like those of the
orchestrator. Off unless PATCHBAY_METRICS_PORT is set. Not here: what a deployment is (`deployments.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from patchbay_worker.cluster.spec import ReplicaState

log = logging.getLogger(__name__)

_STATES: Final = ("starting", "ready", "restarting", "failed")
#: Name -> (help, labels): the one home, docs/metrics.md is printed from it.
METRICS: Final = {
    "patchbay_ray_connected": ("1 while Ray answers the gateway", ()),
    "patchbay_replicas": ("Replicas, by deployment and state", ("model", "state")),
    "patchbay_replica_epoch": ("Present epoch of a replica's gang: grows with every start", ("model", "replica")),
    "patchbay_rank_weights_bytes": ("Weights that a rank holds, as measured", ("model", "replica", "rank")),
    "patchbay_rank_process_bytes": (
        "Memory of a rank after the load: of the process, or of its device",
        ("model", "replica", "rank"),
    ),
}

Present = Callable[[], dict[str, list[ReplicaState]]]


class ClusterCollector(Collector):
    """Asks when it is asked; nothing is counted in between."""

    def __init__(self, present: Present, trouble: Callable[[], str]) -> None:
        self._present = present
        self._trouble = trouble

    def collect(self) -> Iterator[Metric]:
        families = {name: GaugeMetricFamily(name, words, labels=labels) for name, (words, labels) in METRICS.items()}
        families["patchbay_ray_connected"].add_metric([], 0.0 if self._trouble() else 1.0)
        for model, states in self._present().items():
            for wanted in _STATES:
                count = sum(state.state == wanted for state in states)
                families["patchbay_replicas"].add_metric([model, wanted], count)
            for state in states:
                _add_replica(families, model, state)
        yield from families.values()


def _add_replica(families: dict[str, GaugeMetricFamily], model: str, state: ReplicaState) -> None:
    labels = [model, str(state.spec["replica"])]
    families["patchbay_replica_epoch"].add_metric(labels, state.epoch)
    for rank in state.ranks:
        memory = rank["memory"]
        families["patchbay_rank_weights_bytes"].add_metric([*labels, str(rank["rank"])], memory["heldBytes"])
        families["patchbay_rank_process_bytes"].add_metric([*labels, str(rank["rank"])], memory["processBytes"])


def serve_metrics(host: str, port: int, present: Present, trouble: Callable[[], str]) -> int:
    """Returns the port; 0 takes a free one."""
    registry = CollectorRegistry()
    registry.register(ClusterCollector(present, trouble))
    server, _ = start_http_server(port, host, registry)
    log.info("metrics on %s:%d", host, server.server_port)
    return int(server.server_port)
