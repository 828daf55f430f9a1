"""Which nodes of a gang have stopped answering. Ray itself takes 15 s to see a dead node and more than a minute for one
that is cut off, so each is asked directly. Not here: what follows from it (`supervisor.py`).
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import ray

from patchbay_worker.cluster.placement import Placement

_ANSWER_S: Final = 2.0


def silent_nodes(before: Placement | None, own_node: str) -> list[str]:
    """Of all nodes but our own, those that Ray calls alive and whose raylet takes no connection.

    Empty before the first epoch: nothing was lost yet, and Ray's view is good enough to begin with.
    """
    if before is None:
        return []
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own_node]
    if not others:
        return []
    with ThreadPoolExecutor(len(others)) as pool:
        return [node["NodeID"] for node, answers in zip(others, pool.map(_answers, others), strict=True) if not answers]


def _answers(node: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=_ANSWER_S):
            return True
    except OSError:
        return False
