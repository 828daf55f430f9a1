"""One epoch of a gang: starts the ranks, loads the model, runs one job at a time on all of them, and is lost as a whole
when any of them is. Not here: Ray actors (`rank_fleet.py`), queueing and memory of jobs (`jobs.py`), the next epoch
(`supervisor.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from patchbay_worker.cluster.rank.actor import RankOrder
from patchbay_worker.cluster.rank.loop import Hello
from patchbay_worker.cluster.rank_links import RankLinks
from patchbay_worker.cluster.running_job import JobKey, RunningJob, Start
from patchbay_worker.cluster.spec import GangSpec
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.frames import Frame

log = logging.getLogger(__name__)
_T = TypeVar("_T")

HELLO_S: Final = 120.0
LOAD_S: Final = 1800.0
#: How long a rank with a typed reason may come after one that only lost its peers.
_BETTER_REASON_S: Final = 2.0
_VALIDATE_S: Final = 30.0
_VISIBLE_STEP: Final = 0.05

#: Takes phase, message, and which part of the phase is done, where that is known.
OnPhase = Callable[[str, str, float | None], None]


class Fleet(Protocol):
    """The processes of an epoch: Ray actors, or threads in tests."""

    def start(self, orders: Sequence[RankOrder], on_end: Callable[[int, str], None]) -> None: ...
    def kill(self, pids: dict[int, int]) -> None: ...


@dataclass(frozen=True)
class Ready:
    """What a loaded gang says of itself."""

    description: str
    ranks: list[Hello]
    #: By rank: bytes that were needed, are held, and the process has in all.
    memory: list[dict[str, int]]


class Weights:
    """How far all ranks are with their weights: as far as the last of them, told in steps that somebody can see."""

    def __init__(self, size: int, tell: Callable[[float], None]) -> None:
        self._read = dict.fromkeys(range(size), 0.0)
        self._tell = tell
        self._told = 0.0
        tell(0.0)

    def take(self, rank: int, fraction: float) -> None:
        self._read[rank] = fraction
        slowest = min(self._read.values())
        if slowest >= self._told + _VISIBLE_STEP:
            self._told = slowest
            self._tell(slowest)


class Gang:
    """`lost` resolves with the reason, once, and then nothing of this epoch may be used."""

    def __init__(self, spec: GangSpec, epoch: int, fleet: Fleet, artifact_url: str = "") -> None:
        self._artifact_url = artifact_url
        self.spec = spec
        self.epoch = epoch
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._fleet = fleet
        self._links = RankLinks(spec.world_size, epoch, secrets.token_urlsafe(24), self._take, self._ended)
        self._ready: dict[int, Frame] = {}
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._untyped: PatchbayError | None = None
        self._job: RunningJob | None = None
        self._validations: dict[int, asyncio.Future[Frame]] = {}
        self._ids = itertools.count()
        self._weights: Weights | None = None

    # life

    async def start(self, host: str, on_phase: OnPhase) -> Ready:
        """Raises the typed error of the rank that could not start; the caller closes the gang then."""
        port = await self._links.listen(host)
        on_phase("ranks", f"starting {self.spec.world_size} ranks", None)
        orders = [RankOrder(rank, self.epoch, self._links.token, host, port) for rank in range(self.spec.world_size)]
        self._fleet.start(orders, self._ended)
        hellos = await self._unless_lost(self._links.all_said_hello(), HELLO_S, "the ranks' processes did not start")
        self._weights = Weights(len(hellos), lambda part: on_phase("load", f"loading {self.spec.model}", part))
        for hello in hellos:
            self._links.send(hello.rank, self._load_frame(hello, hellos[0]))
        await self._unless_lost(self._loaded, LOAD_S, "the model was not loaded")
        memory = [dict(self._ready[hello.rank].fields["memory"]) for hello in hellos]
        return Ready(self._ready[0].body.decode(), hellos, memory)

    def _load_frame(self, hello: Hello, first: Hello) -> Frame:
        meeting = {"masterAddr": first.address, "masterPort": first.master_port, "worldSize": self.spec.world_size}
        return Frame(
            "load",
            {
                **self.spec.to_json(),
                **meeting,
                "artifactUrl": self._artifact_url,
                "rank": hello.rank,
                "address": hello.address,
            },
        )

    async def _unless_lost(self, work: Awaitable[_T], limit_s: float, what: str) -> _T:
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        waiting: list[asyncio.Future[Any]] = [task, self.lost]
        await asyncio.wait(waiting, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            result: _T = task.result()
            return result
        task.cancel()
        if self._untyped is not None:
            raise self._untyped
        raise self.lost_error(self.lost.result() if self.lost.done() else f"{what} within {limit_s:g} s")

    def lost_error(self, reason: str) -> PatchbayError:
        return error("PB_GANG_LOST", model=self.spec.deployment, epoch=self.epoch, reason=reason)

    def lose(self, reason: str) -> None:
        if self.lost.done():
            return
        log.warning("epoch %d of %s is lost: %s", self.epoch, self.spec.deployment, reason)
        self.lost.set_result(reason)
        if self._job is not None:
            self._job.lose(self.lost_error(reason))
        for answer in self._validations.values():
            if not answer.done():
                answer.set_exception(self.lost_error(reason))

    async def close(self) -> None:
        """Kills every process of this epoch."""
        self.lose("it was closed")
        pids = self._links.pids()
        await self._links.close()
        await asyncio.to_thread(self._fleet.kill, pids)

    # jobs

    async def run(self, key: JobKey, start: Start, job: RunningJob) -> None:
        """Prepare on all ranks, then go on all or abort on all. The outcome is in `job`."""
        self._job = job
        try:
            if self.lost.done():
                job.lose(self.lost_error(self.lost.result()))
                return
            self._links.send_all(Frame("execute", {**key.fields(), **start.fields()}, start.document))
            if not await job.prepared:
                self._links.send_all(Frame("abort", key.fields()))
                return
            if self.spec.world_size > 1:
                self._links.send_all(Frame("go", key.fields()))
            job.running()
            await job.ended
        finally:
            self._job = None

    def cancel(self, key: JobKey, reason: str) -> None:
        """Asks the ranks to stop the job; they agree among themselves where."""
        self._links.send_all(Frame("cancel", {**key.fields(), "reason": reason}))

    async def validate(self, document: bytes) -> bytes:
        """`{warnings}`, from rank 0's second thread, also while a job runs."""
        number = next(self._ids)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._validations[number] = answer
        try:
            self._links.send(0, Frame("validate", {"id": number}, document))
            frame = await asyncio.wait_for(answer, _VALIDATE_S)
        except TimeoutError:
            raise error("PB_INTERNAL", reason=f"no answer to a validation within {_VALIDATE_S:g} s") from None
        finally:
            del self._validations[number]
        if not frame.fields["ok"]:
            raise PatchbayError.from_json(json.loads(frame.body))
        return frame.body

    # frames

    def _take(self, rank: int, frame: Frame) -> None:
        if frame.type == "validated":
            answer = self._validations.get(int(frame.fields["id"]))
            if answer is not None and not answer.done():
                answer.set_result(frame)
        elif frame.type == "loading" and self._weights is not None:
            self._weights.take(rank, float(frame.fields["fraction"]))
        elif frame.type == "ready":
            self._take_ready(rank, frame)
        elif frame.type == "failed" and "job" not in frame.fields:
            self._take_failed_load(frame)
        elif frame.type == "lost":
            self.lose(str(frame.fields["reason"]))
        elif self._job is not None and self._job.key.is_of(frame.fields):
            self._job.take(rank, frame)

    def _take_ready(self, rank: int, frame: Frame) -> None:
        self._ready[rank] = frame
        self._links.mark_ready(rank)
        if len(self._ready) == self.spec.world_size and not self._loaded.done():
            self._loaded.set_result(None)

    def _take_failed_load(self, frame: Frame) -> None:
        """One rank's typed reason tells more than its peers' broken connections, which may arrive first."""
        problem = PatchbayError.from_json(json.loads(frame.body))
        if self._loaded.done():
            return
        if frame.fields["typed"]:
            self._loaded.set_exception(problem)
        elif self._untyped is None:
            self._untyped = problem
            asyncio.get_running_loop().call_later(_BETTER_REASON_S, self.lose, "a rank could not load the model")

    def _ended(self, rank: int, reason: str) -> None:
        if self._untyped is None:
            self.lose(f"rank {rank}: {reason}")
