"""The Gang service of a supervisor: one long stream per orchestrator, and the same messages in one call for those that
come through the gateway. Not here: jobs themselves (`jobs.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from patchbay_worker.cluster.gang import Gang
from patchbay_worker.cluster.grpc_errors import SERVER_OPTIONS, abort, has_token
from patchbay_worker.cluster.jobs import Attempt, GangJobs, failed
from patchbay_worker.cluster.running_job import JobKey, Start
from patchbay_worker.errors import PatchbayError, error

log = logging.getLogger(__name__)


@dataclass
class Epoch:
    """A gang that is ready, and what one must show to use it."""

    gang: Gang
    jobs: GangJobs
    token: str
    streams: set[Stream] = field(default_factory=set)

    def close_streams(self) -> None:
        for stream in self.streams:
            stream.finish()


class Stream:
    """Updates on their way to one client, in order. `pump` is the only writer."""

    def __init__(self) -> None:
        self._unsent: deque[pb.ExecuteResponse] = deque()
        self._attempts: set[Attempt] = set()
        self._wake = asyncio.Event()
        self._finished = False

    def push(self, attempt: Attempt | None, update: pb.ExecuteResponse) -> None:
        if attempt is not None:
            self._attempts.add(attempt)
        self._unsent.append(update)
        self._wake.set()

    def finish(self) -> None:
        """What has been pushed is still sent."""
        self._finished = True
        self._wake.set()

    async def pump(self, write: Callable[[pb.ExecuteResponse], Any]) -> None:
        while self._unsent or not self._finished:
            while self._unsent:
                await write(self._unsent.popleft())
            if not self._finished:
                self._wake.clear()
                await self._wake.wait()

    def detach(self) -> None:
        """What was not sent is sent again on the stream that resends the start."""
        for attempt in self._attempts:
            attempt.detach(self.push)


class ExecuteServer(worker_pb2_grpc.GangServicer):
    """`epoch` is the present one, or None while there is no gang."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self.epoch: Epoch | None = None
        self._server: grpc.aio.Server | None = None
        self._validations: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> int:
        """Returns the port, which stays the same over all epochs."""
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        worker_pb2_grpc.add_GangServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(f"{host}:0")
        await self._server.start()
        return int(port)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=0.5)

    async def Execute(
        self, requests: AsyncIterator[pb.ExecuteRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        epoch = self.epoch
        if epoch is None:
            await abort(context, self._not_ready())
        if not has_token(context, epoch.token):
            await abort(context, error("PB_UNAUTHORIZED"))
        stream = Stream()
        epoch.streams.add(stream)
        reader = asyncio.create_task(self._read(requests, epoch, stream))
        try:
            await stream.pump(context.write)
            if epoch.gang.lost.done():
                await abort(context, epoch.gang.lost_error(epoch.gang.lost.result()))
        finally:
            reader.cancel()
            epoch.streams.discard(stream)
            stream.detach()

    async def _read(self, requests: AsyncIterator[pb.ExecuteRequest], epoch: Epoch, stream: Stream) -> None:
        try:
            async for request in requests:
                self._take(epoch, request, stream.push)
        finally:
            stream.finish()

    async def execute_once(self, request: pb.ExecuteRequest) -> list[pb.ExecuteResponse]:
        """All updates of one request, when the last of them is there."""
        updates: list[pb.ExecuteResponse] = []
        ended = asyncio.Event()

        def collect(_: Attempt | None, update: pb.ExecuteResponse) -> None:
            updates.append(update)
            if update.WhichOneof("update") in ("done_json", "failed_json", "validated_json"):
                ended.set()

        if self.epoch is None:
            return [failed(_key(request.key), self._not_ready())]
        self._take(self.epoch, request, collect)
        if request.WhichOneof("command") != "cancel":
            await ended.wait()
        return updates

    def _not_ready(self) -> PatchbayError:
        return error("PB_MODEL_NOT_READY", model=self._deployment, status="not ready")

    def _take(self, epoch: Epoch, request: pb.ExecuteRequest, push: Callable[[Any, pb.ExecuteResponse], None]) -> None:
        key = _key(request.key)
        command = request.WhichOneof("command")
        if command == "validate":
            task = asyncio.create_task(_validate(epoch.gang, key, request, push))
            self._validations.add(task)
            task.add_done_callback(self._validations.discard)
        elif key.epoch != epoch.gang.epoch:
            push(None, failed(key, error("PB_STALE_ATTEMPT", attempt=key.attempt, jobId=key.job_id)))
        elif command == "start":
            start = request.start
            given = Start(
                start.document_json,
                start.deadline_unix_ms,
                start.artifact_url,
                start.ticket,
                start.resume_json,
                start.traceparent,
            )
            epoch.jobs.submit(key, given, push, start.after_seq)
        elif command == "cancel":
            epoch.jobs.cancel(key, request.cancel.reason)


async def _validate(
    gang: Gang, key: JobKey, request: pb.ExecuteRequest, push: Callable[[Any, pb.ExecuteResponse], None]
) -> None:
    try:
        answer = await gang.validate(request.validate.document_json)
        push(None, pb.ExecuteResponse(key=request.key, validated_json=answer))
    except PatchbayError as problem:
        push(None, failed(key, problem))


def _key(key: pb.JobKey) -> JobKey:
    return JobKey(key.job_id, key.attempt, key.epoch)
