"""The rank processes of one epoch as Ray actors in the gang's placement group. Not here: what they are told to do."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from patchbay_worker.cluster.placement import Placement
from patchbay_worker.cluster.rank.actor import RankActor, RankOrder
from patchbay_worker.cluster.spec import GangSpec

log = logging.getLogger(__name__)


class RayFleet:
    """Ray only starts and ends the ranks; it carries nothing of a job."""

    def __init__(self, spec: GangSpec, placement: Placement, own_node: str) -> None:
        self._spec = spec
        self._placement = placement
        self._own_node = own_node
        self._actors: list[Any] = []
        self._watches: list[asyncio.Task[None]] = []

    def start(self, orders: Sequence[RankOrder], on_end: Callable[[int, str], None]) -> None:
        for order in orders:
            bundle = self._placement.bundles[order.rank]
            strategy = PlacementGroupSchedulingStrategy(self._placement.group, placement_group_bundle_index=bundle)
            gpus = 1 if self._spec.device == "cuda" else 0
            actor = RankActor.options(
                num_cpus=self._spec.cpus_per_rank,
                num_gpus=gpus,
                memory=self._placement.bytes_per_rank or None,
                scheduling_strategy=strategy,
            ).remote()
            self._actors.append(actor)
            self._watches.append(asyncio.create_task(_watch(order.rank, actor.run.remote(order), on_end)))

    def kill(self, pids: dict[int, int]) -> None:
        for watch in self._watches:
            watch.get_loop().call_soon_threadsafe(watch.cancel)
        for rank, pid in pids.items():
            if self._placement.nodes[rank] == self._own_node:
                _kill_at_once(pid)
        for actor in self._actors:
            ray.kill(actor, no_restart=True)


async def _watch(rank: int, ended: Any, on_end: Callable[[int, str], None]) -> None:
    try:
        await ended
        on_end(rank, "its process left")
    except ray.exceptions.RayError as problem:
        on_end(rank, str(problem).strip().splitlines()[0])


def _kill_at_once(pid: int) -> None:
    """Ray asks a process to end itself, which a stopped one never does. The title tells ours from a reused pid."""
    try:
        if psutil.Process(pid).cmdline()[:1][0].startswith("ray::Rank"):
            os.kill(pid, signal.SIGKILL)
    except (psutil.Error, IndexError, ProcessLookupError):
        return
