"""One attempt while the ranks work on it: gathers what every rank says, settles once. Not here: sockets, queueing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from patchbay_worker.errors import PatchbayError
from patchbay_worker.frames import Frame
from patchbay_worker.spans import GangSpans


@dataclass(frozen=True)
class JobKey:
    """A fencing token: what belongs to another attempt or epoch is not heard."""

    job_id: str
    attempt: int
    epoch: int

    def fields(self) -> dict[str, Any]:
        return {"job": self.job_id, "attempt": self.attempt, "epoch": self.epoch}

    def is_of(self, fields: dict[str, Any]) -> bool:
        return (fields.get("job"), fields.get("attempt"), fields.get("epoch")) == (
            self.job_id,
            self.attempt,
            self.epoch,
        )


@dataclass(frozen=True)
class Start:
    """What a job brings along besides its key; the document stays as it came."""

    document: bytes
    deadline_unix_ms: int
    artifact_url: str
    ticket: str
    resume: str = ""
    traceparent: str = ""

    def fields(self) -> dict[str, Any]:
        return {
            "deadlineUnixMs": self.deadline_unix_ms,
            "artifactUrl": self.artifact_url,
            "ticket": self.ticket,
            "resume": self.resume,
            "traceparent": self.traceparent,
        }


class RunningJob:
    """`outcome` is the result's bytes from rank 0, or the error's JSON; set when `ended` is done."""

    def __init__(
        self,
        key: JobKey,
        size: int,
        on_running: Callable[[], None],
        on_event: Callable[[bytes], None],
        spans: GangSpans | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.key = key
        self.prepared: asyncio.Future[bool] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.result = b""
        self.error: bytes | PatchbayError | None = None
        self.running = on_running
        self._on_event = on_event
        self._spans = spans
        self._size = size
        self._ready = 0
        self._errors: dict[int, bytes] = {}
        self._ended = 0

    def take(self, rank: int, frame: Frame) -> None:
        if frame.type == "prepared":
            self._ready += 1
            if self._ready == self._size and not self.prepared.done():
                self.prepared.set_result(True)
        elif frame.type == "event":
            self._on_event(frame.body)
        elif frame.type == "spans" and self._spans is not None:
            self._spans.take(rank, frame.body)
        elif frame.type in ("done", "failed"):
            self._end(rank, frame)

    def _end(self, rank: int, frame: Frame) -> None:
        if frame.type == "failed":
            self._errors[rank] = frame.body
        elif rank == 0:
            self.result = frame.body
        self._ended += 1
        if not self.prepared.done():
            # Refused before any rank moved: the others need not be heard.
            self._settle()
            self.prepared.set_result(False)
        elif self._ended == self._size:
            self._settle()

    def _settle(self) -> None:
        if self.ended.done():
            return
        if self._errors:
            # The root knows the user's own traceback; its peers only know that something failed.
            self.error = self._errors[min(self._errors)]
        self.ended.set_result(None)

    def lose(self, problem: PatchbayError) -> None:
        if self.ended.done():
            return
        self.error = problem
        self.ended.set_result(None)
        if not self.prepared.done():
            self.prepared.set_result(False)
