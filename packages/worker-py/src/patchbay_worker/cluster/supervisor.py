"""The life of one replica over all of its epochs: a detached Ray actor that reserves the slots, starts a gang in them,
serves jobs on it, and when it is lost starts the next epoch in the same slots. Imports no torch.
Not here: one epoch (`gang.py`), the wire (`execute_server.py`), deployments of several replicas (gateway/).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import ray

from patchbay_protocol import worker_pb2 as pb
from patchbay_worker.cluster import placement
from patchbay_worker.cluster.back_off import BackOff
from patchbay_worker.cluster.execute_server import Epoch, ExecuteServer
from patchbay_worker.cluster.gang import Gang
from patchbay_worker.cluster.jobs import GangJobs
from patchbay_worker.cluster.node_check import silent_nodes
from patchbay_worker.cluster.rank_fleet import RayFleet
from patchbay_worker.cluster.spec import GangSpec, ReplicaState
from patchbay_worker.errors import PatchbayError, error

log = logging.getLogger(__name__)

#: A cancelled job that does not stop by itself costs the gang after this long.
CANCEL_GRACE_S: Final = 10.0
#: A rank that was killed while it loaded says nothing about the model.
_FIRST_STARTS: Final = 3
_WATCH_S: Final = 30.0
_NO_ROOM_PAUSE_S: Final = 2.0


@dataclass(frozen=True)
class SupervisorOptions:
    """`loopback_node`: clients live on this node only, so a supervisor there needs no other address."""

    loopback_node: str | None = None
    cancel_grace_s: float = CANCEL_GRACE_S
    placement_wait_s: float = placement.WAIT_S


class GroupSupervisor:
    """Every method starts the replica if that has not happened: also after Ray started this process again."""

    def __init__(self, spec: dict[str, Any], options: SupervisorOptions) -> None:
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        self._spec = GangSpec.from_json(spec)
        self._options = options
        runtime = ray.get_runtime_context()
        self._node = runtime.get_node_id()
        # Epochs only grow, also over a restart of this process, which forgets the last one.
        # It may have been ready before: then it waits for what is away, as between two epochs.
        self._again: Final = bool(runtime.was_current_actor_reconstructed)
        self._epoch = int(time.time()) if self._again else 1
        # Versions likewise: a watcher that knows those of the last process must not take one for the other.
        self._state = ReplicaState(self._spec.to_json(), self._epoch, version=self._epoch)
        self._changed: asyncio.Condition | None = None
        self._server = ExecuteServer(self._spec.deployment)
        self._life: asyncio.Task[None] | None = None
        self._gang: Gang | None = None
        self._failed_starts = 0
        self._completed = 0
        self._placement: placement.Placement | None = None

    async def watch(self, known: int) -> dict[str, Any]:
        """The state as soon as it differs from version `known`, or after a while all the same."""
        self._begin()
        assert self._changed is not None
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._state.version != known), _WATCH_S)
        return self._state.to_json()

    async def execute(self, request: bytes) -> list[bytes]:
        """One request through Ray, for clients that cannot dial this process."""
        self._begin()
        updates = await self._server.execute_once(pb.ExecuteRequest.FromString(request))
        return [update.SerializeToString() for update in updates]

    async def stop(self) -> None:
        """Ends ranks, server and slots; the actor itself is ended by the caller."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        await self._lose_gang()
        await self._server.close()
        await asyncio.to_thread(placement.remove, self._spec)

    def _begin(self) -> None:
        if self._life is None:
            self._changed = asyncio.Condition()
            self._life = asyncio.create_task(self._live())

    async def _publish(self, **changes: Any) -> None:
        assert self._changed is not None
        async with self._changed:
            self._state.change(**changes)
            self._changed.notify_all()

    # life

    async def _live(self) -> None:
        try:
            await self._prepare()
            back_off = BackOff()
            while True:
                started = time.monotonic()
                reason = await self._live_one_epoch()
                pause = back_off.after(time.monotonic() - started, completed=self._completed)
                self._epoch += 1
                await self._publish(state="restarting", epoch=self._epoch, token="", ranks=[], reason=reason.to_json())
                await asyncio.sleep(pause)
                await self._place_again()
        except PatchbayError as problem:
            await self._fail(problem)
        except Exception as problem:
            log.exception("%s failed", self._spec.actor_name)
            await self._fail(error("PB_INTERNAL", reason=f"{type(problem).__name__}: {problem}"))

    async def _place_again(self) -> None:
        """Whatever does not fit now may fit when nodes are back: a deployment that was ready once waits for them."""
        while True:
            try:
                return await self._place()
            except PatchbayError as problem:
                await self._publish(reason=problem.to_json())
                await asyncio.sleep(_NO_ROOM_PAUSE_S)

    async def _prepare(self) -> None:
        await self._publish(phase={"phase": "place", "message": f"reserving {self._spec.world_size} slots"})
        await (self._place_again() if self._again else self._place())
        own = ray.util.get_node_ip_address()
        local = self._node == self._options.loopback_node
        host = "127.0.0.1" if local else own
        port = await self._server.listen(host)
        await self._publish(address=f"{host}:{port}")

    async def _place(self) -> None:
        """The same slots in every epoch, unless one of their nodes is gone."""
        wait_s = self._options.placement_wait_s
        away = await asyncio.to_thread(silent_nodes, self._placement, self._node)
        placed = await asyncio.to_thread(placement.place, self._spec, self._node, avoid=away, wait_s=wait_s)
        self._placement = placed
        alone = set(placed.nodes) == {self._node}
        self._control_host = "127.0.0.1" if alone else ray.util.get_node_ip_address()

    async def _live_one_epoch(self) -> PatchbayError:
        """Returns why it ended; raises when the first start fails by what the user has to correct, or too often."""
        placed = self._placement
        assert placed is not None, "prepared before it lives"
        self._completed = 0
        fleet = RayFleet(self._spec, placed, self._node)
        gang = self._gang = Gang(self._spec, self._epoch, fleet, self._untried_url())
        try:
            ready = await gang.start(self._control_host, self._say_phase)
        except PatchbayError as problem:
            await self._lose_gang()
            self._failed_starts += 1
            patient = self._again or self._failed_starts < _FIRST_STARTS
            if self._state.description or (problem.retryable and patient):
                return problem
            raise
        jobs = GangJobs(gang, self._options.cancel_grace_s)
        epoch = self._server.epoch = Epoch(gang, jobs, secrets.token_urlsafe(32))
        ranks = [
            {"rank": hello.rank, "node": node, "pid": hello.pid, "memory": memory}
            for hello, node, memory in zip(ready.ranks, placed.nodes, ready.memory, strict=True)
        ]
        description = json.loads(ready.description)
        description["versions"] = {**description.get("versions", {}), "ray": ray.__version__}
        await self._publish(
            state="ready",
            epoch=self._epoch,
            token=epoch.token,
            ranks=ranks,
            reason=None,
            description=json.dumps(description),
        )
        log.info("epoch %d of %s is ready at %s", self._epoch, self._spec.deployment, self._state.address)
        await jobs.serve()
        self._completed = jobs.completed
        epoch.close_streams()
        await self._lose_gang()
        return gang.lost_error(gang.lost.result())

    def _untried_url(self) -> str:
        """Only a first start is held to it: later the ranks come back also while the orchestrator is away."""
        return "" if self._state.description or self._again else self._spec.artifact_url

    async def _lose_gang(self) -> None:
        self._server.epoch = None
        if self._gang is not None:
            await self._gang.close()
            self._gang = None

    def _say_phase(self, phase: str, message: str, fraction: float | None) -> None:
        if not fraction:
            log.info("epoch %d of %s: %s", self._epoch, self._spec.deployment, message)
        told = {"phase": phase, "message": message, **({} if fraction is None else {"fraction": fraction})}
        self._saying = asyncio.create_task(self._publish(phase=told))

    async def _fail(self, problem: PatchbayError) -> None:
        await self._lose_gang()
        await asyncio.to_thread(placement.remove, self._spec)
        await self._publish(state="failed", reason=problem.to_json(), token="")
        log.warning("%s failed in pid %d: %s", self._spec.actor_name, os.getpid(), problem)


_remote: Any = ray.remote
GroupSupervisorActor: Any = _remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=1000)(
    GroupSupervisor
)
