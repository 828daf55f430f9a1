"""Deployments as they are in the cluster now: found by the names of their supervisors, followed by one watch each, told
to whoever asks. Nothing is kept over a restart. Not here: gRPC (`server.py`), Ray (`driver.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import ray

from patchbay_worker.cluster.spec import GangSpec, ReplicaState
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.gateway.driver import Driver

log = logging.getLogger(__name__)

#: How often supervisors that another gateway made are looked for.
_REFRESH_S: Final = 5.0
_FAILURES_UNTIL_LOST: Final = 3


@dataclass
class Replica:
    """A supervisor and what it said last."""

    supervisor: Any
    task: asyncio.Task[None]
    state: ReplicaState | None = None

    @property
    def spec(self) -> GangSpec | None:
        return GangSpec.from_json(self.state.spec) if self.state is not None else None


class Deployments:
    """`lost` is set when Ray does not answer any more: a new process is the cure, since nothing is held here."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._replicas: dict[tuple[str, int], Replica] = {}
        self._changed = asyncio.Condition()
        self._locks: dict[str, asyncio.Lock] = {}
        self._failures = 0
        self._last_failure = ""
        self.lost = asyncio.Event()

    @property
    def trouble(self) -> str:
        """Empty while Ray answers."""
        return self._last_failure if self._failures else ""

    async def follow(self) -> None:
        """Runs for the life of the gateway."""
        while True:
            try:
                for identity, supervisor in (await self._driver.supervisors()).items():
                    self._add(identity, supervisor)
                self._failures = 0
            except (TimeoutError, ray.exceptions.RayError, ConnectionError, RuntimeError) as problem:
                self._failures += 1
                self._last_failure = f"{type(problem).__name__}: {problem}"
                log.warning("Ray does not answer (%d): %s", self._failures, self._last_failure)
                if self._failures >= _FAILURES_UNTIL_LOST:
                    self.lost.set()
                elif self._driver.is_client:
                    await self._begin_again()
                    continue
            await asyncio.sleep(_REFRESH_S)

    async def _begin_again(self) -> None:
        """A Ray Client session that broke stays broken. The supervisors live on and are found by their names."""
        for identity, replica in list(self._replicas.items()):
            replica.task.cancel()
            del self._replicas[identity]
        try:
            await asyncio.to_thread(self._driver.reconnect)
            log.info("a new session of Ray Client is open")
        except Exception as problem:  # it raises many kinds; the next look counts it
            log.warning("no new session of Ray Client: %s", problem)

    def _add(self, identity: tuple[str, int], supervisor: Any) -> Replica:
        known = self._replicas.get(identity)
        if known is None:
            task = asyncio.create_task(self._watch(identity, supervisor))
            known = self._replicas[identity] = Replica(supervisor, task)
        return known

    async def _watch(self, identity: tuple[str, int], supervisor: Any) -> None:
        version = -1
        try:
            while True:
                try:
                    state = await self._driver.state_of(supervisor, version)
                except ray.exceptions.ActorUnavailableError:
                    await asyncio.sleep(0.2)
                    continue
                if state.version != version:
                    version = state.version
                    await self._tell(identity, state)
        except ray.exceptions.RayError as problem:
            log.info("replica %s of %s is gone: %s", identity[1], identity[0], type(problem).__name__)
            await self._forget(identity, supervisor)

    async def _tell(self, identity: tuple[str, int], state: ReplicaState) -> None:
        async with self._changed:
            if identity in self._replicas:
                self._replicas[identity].state = state
            self._changed.notify_all()

    async def _forget(self, identity: tuple[str, int], supervisor: Any) -> None:
        async with self._changed:
            known = self._replicas.get(identity)
            if known is not None and known.supervisor == supervisor:
                del self._replicas[identity]
            self._changed.notify_all()

    # reading

    def present(self) -> dict[str, list[ReplicaState]]:
        """Deployment -> states of its replicas, by index."""
        found: dict[str, list[ReplicaState]] = {}
        for (name, _), replica in sorted(self._replicas.items(), key=lambda item: item[0]):
            if replica.state is not None:
                found.setdefault(name, []).append(replica.state)
        return found

    async def changes(self) -> AsyncIterator[dict[str, list[ReplicaState]]]:
        """The present at once, then after every change the present again; changes in between may fall together."""
        last: object = None
        while True:
            async with self._changed:
                while self._fingerprint() == last:
                    await self._changed.wait()
                last = self._fingerprint()
                present = self.present()
            yield present

    def _fingerprint(self) -> object:
        return sorted((key, each.state.version) for key, each in self._replicas.items() if each.state is not None)

    def supervisor(self, name: str, replica: int) -> Any:
        known = self._replicas.get((name, replica))
        if known is None:
            raise error("PB_MODEL_NOT_FOUND", model=name)
        return known.supervisor

    # writing

    async def remove_all(self) -> None:
        """Everything of this gateway's namespace; what cannot be removed is named in the log."""
        names = {name for name, _ in await self._driver.supervisors()}
        for name, outcome in zip(
            names, await asyncio.gather(*map(self.undeploy, names), return_exceptions=True), strict=True
        ):
            if isinstance(outcome, BaseException):
                log.error("%s stays in the cluster: %r", name, outcome)

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One change of a deployment at a time."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            yield

    async def deploy(self, wanted: GangSpec, on_phase: Callable[[dict[str, Any]], None]) -> list[ReplicaState]:
        """Returns when all replicas are ready; the same deployment again finds the first one.

        Raises PB_MODEL_EXISTS for another one of the name, or why a replica cannot start; then nothing of it is left.
        """
        async with self._alone(wanted.deployment):
            await self._refuse_other(wanted)
            for index in range(wanted.replicas):
                supervisor = await self._driver.create(replace(wanted, replica=index))
                self._add((wanted.deployment, index), supervisor)
        try:
            return await self._until_ready(wanted, on_phase)
        except PatchbayError:
            await self.undeploy(wanted.deployment)  # raises Ray's own error when that was the reason
            raise

    async def _refuse_other(self, wanted: GangSpec) -> None:
        for identity, supervisor in (await self._driver.supervisors()).items():
            if identity[0] != wanted.deployment:
                continue
            self._add(identity, supervisor)
            state = await self._driver.state_of(supervisor, -1)
            if GangSpec.from_json(state.spec).wanted != wanted.wanted:
                raise error("PB_MODEL_EXISTS", model=wanted.deployment)

    async def _until_ready(self, wanted: GangSpec, on_phase: Callable[[dict[str, Any]], None]) -> list[ReplicaState]:
        said: list[dict[str, Any]] = []
        seen = False
        async for present in self.changes():
            states = present.get(wanted.deployment, [])
            for state in states:
                if state.phase and state.phase not in said:
                    said.append(state.phase)
                    on_phase(state.phase)
                if state.state == "failed" and state.reason is not None:
                    raise PatchbayError.from_json(state.reason)
            if len(states) == wanted.replicas and all(state.state == "ready" for state in states):
                return states
            if seen and not states:
                raise error("PB_MODEL_NOT_FOUND", model=wanted.deployment)
            seen = seen or bool(states)
        raise AssertionError("changes() has no end")

    async def undeploy(self, name: str) -> bool:
        """Returns whether it existed; nothing of it is left then."""
        async with self._alone(name):
            found = {key: each for key, each in (await self._driver.supervisors()).items() if key[0] == name}
            await asyncio.gather(*(self._end(key, supervisor) for key, supervisor in found.items()))
            return bool(found)

    async def _end(self, identity: tuple[str, int], supervisor: Any) -> None:
        spec = GangSpec(identity[0], identity[1], "", "", 1, 1, 1, 1, "cpu")  # only its name counts here
        await self._driver.end(spec, supervisor)
        known = self._replicas.get(identity)
        if known is not None:
            known.task.cancel()
            await self._forget(identity, known.supervisor)
