"""One long Execute stream to a supervisor, as an orchestrator keeps it."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from support.gateway import bearer

_WAIT_S = 60.0


class GangClient:
    def __init__(self, stub: Any, replica: pb.Replica) -> None:
        self.epoch = replica.epoch
        self._requests: queue.SimpleQueue[pb.ExecuteRequest | None] = queue.SimpleQueue()
        self._responses = stub.Execute(iter(self._requests.get, None), metadata=bearer(replica.token), timeout=300)

    def key(self, job_id: str, attempt: int = 1, epoch: int | None = None) -> pb.JobKey:
        return pb.JobKey(job_id=job_id, attempt=attempt, epoch=self.epoch if epoch is None else epoch)

    def start(
        self,
        key: pb.JobKey,
        document: dict[str, Any],
        *,
        deadline_unix_ms: int = 0,
        artifact_url: str = "",
        ticket: str = "",
        after_seq: int = 0,
        traceparent: str = "",
    ) -> None:
        start = pb.StartJob(
            document_json=json.dumps(document).encode(),
            deadline_unix_ms=deadline_unix_ms,
            artifact_url=artifact_url,
            ticket=ticket,
            after_seq=after_seq,
            traceparent=traceparent,
        )
        self._requests.put(pb.ExecuteRequest(key=key, start=start))

    def cancel(self, key: pb.JobKey, reason: str) -> None:
        self._requests.put(pb.ExecuteRequest(key=key, cancel=pb.CancelJob(reason=reason)))

    def validate(self, key: pb.JobKey, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self._requests.put(pb.ExecuteRequest(key=key, validate=pb.ValidateJob(document_json=body)))

    def next(self) -> pb.ExecuteResponse:
        response: pb.ExecuteResponse = next(self._responses)
        self.last = response
        return response

    def until_end(self, key: pb.JobKey) -> tuple[list[str], dict[str, Any]]:
        """Kinds of the updates of a job, and the body of the last one."""
        kinds: list[str] = []
        while True:
            update = self.next()
            if update.key.job_id != key.job_id or update.key.attempt != key.attempt:
                continue
            kind = str(update.WhichOneof("update"))
            kinds.append(kind)
            if kind in ("done_json", "failed_json", "validated_json"):
                body: dict[str, Any] = json.loads(getattr(update, kind))
                return kinds, body

    def run(self, job_id: str, document: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The body of the last update."""
        key = self.key(job_id)
        self.start(key, document, **more)
        return self.until_end(key)[1]

    def close(self) -> None:
        self._responses.cancel()
        self._requests.put(None)


@contextmanager
def gang_client(replica: pb.Replica) -> Iterator[GangClient]:
    with grpc.insecure_channel(replica.address) as channel:
        client = GangClient(worker_pb2_grpc.GangStub(channel), replica)
        try:
            yield client
        finally:
            client.close()
