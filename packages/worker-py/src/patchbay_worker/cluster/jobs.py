"""Jobs of one epoch: a bounded queue, one at a time in order, and a memory that answers a resent start. Attempts
fence: an older one is refused, a newer one ends the older. Not here: what ranks do (`gang.py`), the wire
(`execute_server.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from patchbay_protocol import worker_pb2 as pb
from patchbay_worker.cluster.gang import Gang
from patchbay_worker.cluster.running_job import JobKey, RunningJob, Start
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.limits import limits_of
from patchbay_worker.spans import GangSpans

log = logging.getLogger(__name__)

MAX_WAITING: Final = 256
_MAX_REMEMBERED: Final = 256
#: More than can be on its way over a connection when that breaks.
_MAX_KEPT_BYTES: Final = 8 << 20
_MAX_WITH_UPDATES: Final = 8
#: The engine ends a job at its deadline by itself; this is for one that does not.
_DEADLINE_SLACK_S: Final = 0.5

#: Where updates of an attempt go: a stream, or the collector of a call through the gateway.
Subscriber = Callable[["Attempt", pb.ExecuteResponse], None]


class Attempt:
    """What is known of one attempt, and who listens. Updates are numbered and kept for a while, so that a subscriber
    who was cut off gets exactly those that it has not heard.
    """

    def __init__(self, key: JobKey, start: Start) -> None:
        self.key = key
        self.start = start
        self.received = time.time()
        self.outcome: pb.ExecuteResponse | None = None
        self.job: RunningJob | None = None
        self.cancelled: str | None = None
        self.timed_out = False
        self.spans = GangSpans() if start.traceparent else None
        self._subscriber: Subscriber | None = None
        self._updates: deque[pb.ExecuteResponse] = deque()
        self._update_bytes = 0
        self._last_seq = 0

    def attach(self, subscriber: Subscriber, after: int = 0) -> None:
        """In place of whoever listened before."""
        self._subscriber = subscriber
        for update in self._updates:
            if update.seq > after:
                subscriber(self, update)
        if self.outcome is not None:
            subscriber(self, self.outcome)

    def detach(self, subscriber: Subscriber) -> None:
        if self._subscriber == subscriber:
            self._subscriber = None

    def publish(self, update: pb.ExecuteResponse) -> None:
        self._last_seq += 1
        update.seq = self._last_seq
        self._updates.append(update)
        self._update_bytes += update.ByteSize()
        while self._update_bytes > _MAX_KEPT_BYTES:
            self._update_bytes -= self._updates.popleft().ByteSize()
        if self._subscriber is not None:
            self._subscriber(self, update)

    def end(self, outcome: pb.ExecuteResponse) -> None:
        self.outcome = outcome
        if self._subscriber is not None:
            self._subscriber(self, outcome)

    def forget_updates(self) -> None:
        self._updates.clear()
        self._update_bytes = 0

    def begin(self) -> Start:
        """Its time counts from now: what it waited for other jobs here is not its own."""
        waited_ms = round((time.time() - self.received) * 1e3)
        if self.spans is not None:
            self.spans.sent()
        if self.start.deadline_unix_ms:
            self.start = replace(self.start, deadline_unix_ms=self.start.deadline_unix_ms + waited_ms)
        return self.start


class GangJobs:
    """`serve` is the runner; it ends when the gang is lost."""

    def __init__(self, gang: Gang, cancel_grace_s: float) -> None:
        self._gang = gang
        self._cancel_grace_s = cancel_grace_s
        self._attempts: dict[str, Attempt] = {}
        self._waiting: deque[Attempt] = deque()
        self._ended: deque[Attempt] = deque()
        self._wake = asyncio.Event()
        self.completed = 0

    def submit(self, key: JobKey, start: Start, subscriber: Subscriber, after: int = 0) -> None:
        known = self._attempts.get(key.job_id)
        if known is not None and known.key.attempt == key.attempt:
            known.attach(subscriber, after)
            return
        attempt = Attempt(key, start)
        attempt.attach(subscriber)
        if problem := self._refusal(key, known):
            attempt.end(failed(key, problem))
            return
        if known is not None:
            self.cancel(known.key, f"attempt {key.attempt} has begun")
        self._attempts[key.job_id] = attempt
        self._waiting.append(attempt)
        self._wake.set()

    def _refusal(self, key: JobKey, known: Attempt | None) -> PatchbayError | None:
        if known is not None and key.attempt < known.key.attempt:
            return error("PB_STALE_ATTEMPT", attempt=key.attempt, jobId=key.job_id)
        deployment = self._gang.spec.deployment
        if self._gang.lost.done():
            return error("PB_MODEL_NOT_READY", model=deployment, status="restarting")
        if len(self._waiting) >= MAX_WAITING:
            return error("PB_MODEL_NOT_READY", model=deployment, status=f"busy: {MAX_WAITING} jobs wait")
        return None

    def cancel(self, key: JobKey, reason: str) -> None:
        """Idempotent; an attempt that is not known has ended long ago."""
        attempt = self._attempts.get(key.job_id)
        if attempt is None or attempt.key != key or attempt.outcome is not None or attempt.cancelled is not None:
            return
        attempt.cancelled = reason
        if attempt.job is None:
            self._waiting.remove(attempt)
            self._finish(attempt, failed(key, error("PB_JOB_CANCELLED", reason=reason)))
        else:
            self._stop(attempt, reason)

    def _stop(self, attempt: Attempt, reason: str) -> None:
        self._gang.cancel(attempt.key, reason)
        asyncio.get_running_loop().call_later(self._cancel_grace_s, self._kill_if_running, attempt)

    def _kill_if_running(self, attempt: Attempt) -> None:
        if attempt.outcome is None:
            self._gang.lose(f"job {attempt.key.job_id} did not stop within {self._cancel_grace_s:g} s")

    async def serve(self) -> None:
        self._gang.lost.add_done_callback(lambda _: self._wake.set())
        while not self._gang.lost.done():
            if self._waiting:
                await self._run(self._waiting.popleft())
            else:
                self._wake.clear()
                await self._wake.wait()
        while self._waiting:
            attempt = self._waiting.popleft()
            problem = error("PB_MODEL_NOT_READY", model=self._gang.spec.deployment, status="restarting")
            self._finish(attempt, failed(attempt.key, problem))

    async def _run(self, attempt: Attempt) -> None:
        key = attempt.key
        attempt.job = job = RunningJob(
            key,
            self._gang.spec.world_size,
            on_running=lambda: attempt.publish(pb.ExecuteResponse(key=_wire(key), running=pb.JobRunning())),
            on_event=lambda body: attempt.publish(pb.ExecuteResponse(key=_wire(key), event_json=body)),
            spans=attempt.spans,
        )
        start = attempt.begin()
        expiry = self._expire_later(attempt)
        try:
            await self._gang.run(key, start, job)
        finally:
            if expiry is not None:
                expiry.cancel()
        if job.error is None:
            self.completed += 1
            self._finish(attempt, pb.ExecuteResponse(key=_wire(key), done_json=job.result))
        else:
            self._finish(attempt, failed(key, self._cause(attempt) or job.error))

    def _cause(self, attempt: Attempt) -> PatchbayError | None:
        """Whatever a stopped job failed with, it failed because it was stopped."""
        if attempt.cancelled is not None:
            return error("PB_JOB_CANCELLED", reason=attempt.cancelled)
        if attempt.timed_out:
            limits = json.loads(attempt.start.document).get("limits", {})
            return error("PB_JOB_TIMEOUT", timeoutMs=round(limits_of(limits, {}).job_timeout_s * 1e3))
        return None

    def _expire_later(self, attempt: Attempt) -> asyncio.TimerHandle | None:
        if attempt.start.deadline_unix_ms == 0:
            return None
        left = attempt.start.deadline_unix_ms / 1e3 - time.time()
        return asyncio.get_running_loop().call_later(max(left, 0) + _DEADLINE_SLACK_S, self._expire, attempt)

    def _expire(self, attempt: Attempt) -> None:
        if attempt.outcome is None and attempt.cancelled is None:
            attempt.timed_out = True
            self._stop(attempt, "its time is over")

    def _finish(self, attempt: Attempt, outcome: pb.ExecuteResponse) -> None:
        if attempt.spans is not None:
            outcome.spans_json = attempt.spans.to_json()
        attempt.end(outcome)
        self._ended.append(attempt)
        if len(self._ended) > _MAX_WITH_UPDATES:
            self._ended[-_MAX_WITH_UPDATES - 1].forget_updates()
        if len(self._ended) > _MAX_REMEMBERED:
            oldest = self._ended.popleft()
            if self._attempts.get(oldest.key.job_id) is oldest:
                del self._attempts[oldest.key.job_id]


def failed(key: JobKey, problem: PatchbayError | bytes) -> pb.ExecuteResponse:
    body = problem if isinstance(problem, bytes) else json.dumps(problem.to_json()).encode()
    return pb.ExecuteResponse(key=_wire(key), failed_json=body)


def _wire(key: JobKey) -> pb.JobKey:
    return pb.JobKey(job_id=key.job_id, attempt=key.attempt, epoch=key.epoch)
