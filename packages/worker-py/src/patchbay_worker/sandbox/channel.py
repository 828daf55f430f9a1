"""Requests to a job process and their replies: each with a nonce, a deadline and a strict check; then it stays dead.

Not here: what is asked for (client.py), the process and its descriptors (job_process.py).
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.arena import Arena
from patchbay_worker.sandbox.failures import from_exit, from_report
from patchbay_worker.sandbox.job_process import JobProcess
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.message import (
    BODY_IN_ARENA,
    MAX_JSON,
    MAX_MESSAGE,
    ROUSE,
    Kind,
    Message,
    TensorRecord,
    WireError,
    decode,
    encode,
    encode_body,
)
from patchbay_worker.spin import SPIN_S, soon

AWAKE_S: Final = 1e-3
"""Most edits are done by then, and this rank and those that wait for it have nothing else to do."""
ENDING_S: Final = 0.5
"""A process that is being killed has closed its connection before it has ended."""
REPLIES: Final = (Kind.OK, Kind.TENSOR, Kind.ERROR)


class Deadline:
    """A point in time, and the limit that it came from, for the message."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        return self.at - time.monotonic()


class Channel:
    """Used by one thread; only `kill` may come from others."""

    def __init__(self, process: JobProcess, limits: SandboxLimits) -> None:
        self._process = process
        self._limits = limits
        self._arena: Arena | None = None
        self._failure: PatchbayError | None = None
        self._kill_reason: str | None = None
        self._seconds_left = limits.job_timeout_s
        self._apart = False
        self._roused = False
        self._poll = select.poll()
        self._poll.register(process.sock, select.POLLIN)
        self._poll.register(process.log_fd, select.POLLIN)

    @property
    def arena(self) -> Arena:
        """The started job's memory; raises what ended the job, if something has."""
        if self._failure is not None:
            raise self._failure
        if self._arena is None:
            raise error("PB_SANDBOX_FAILED", reason="the job has not been initialised")
        return self._arena

    @property
    def started(self) -> bool:
        return self._arena is not None

    def start(self, arena: Arena, hook: str, body: Mapping[str, Any], deadline: Deadline) -> None:
        """Gives the job its arena and limits: the only packet with a descriptor."""
        self._arena = arena
        nonce = secrets.randbits(64)
        if self._failure is not None:
            raise self._failure
        try:
            socket.send_fds(self._process.sock, [encode(Kind.START, nonce, (), body)], [arena.fd])
        except OSError:
            self._ended(hook)
        self._receive(hook, nonce, deadline, time.monotonic())

    def call(
        self,
        kind: Kind,
        hook: str,
        body: bytes | Mapping[str, Any],
        deadline: Deadline,
        record: TensorRecord | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Message:
        """One request and its reply, which has a tensor if its kind says so. `hook` is for messages. `meanwhile` is
        done before the reply is waited for.
        """
        arena = self.arena
        records: tuple[TensorRecord, ...] = () if record is None else (record,)
        raw, flags = body if isinstance(body, bytes) else encode_body(body), 0
        if len(raw) > MAX_JSON:
            records += (arena.put_bytes(raw, after=record.nbytes if record else 0),)
            raw, flags = b"", BODY_IN_ARENA
        nonce = secrets.randbits(64)
        begun = time.monotonic()
        self._send(hook, encode(kind, nonce, records, raw, flags))
        try:
            meanwhile()
        finally:  # the next request must not find this one's reply
            reply = self._receive(hook, nonce, deadline, begun)
        return reply

    def rouse(self) -> None:
        """Wakes the job up, which takes 0.2 ms on a busy machine, for a request that will come in a moment."""
        if self._arena is not None and self._failure is None and not self._roused:
            self._roused = True
            self._apart = self._process.keep_off_this_core()
            with suppress(OSError):  # the request will tell
                self._process.sock.send(ROUSE)

    def tensor_of(self, reply: Message, hook: str) -> TensorRecord:
        """The one tensor of a reply that must have it."""
        if reply.kind is not Kind.TENSOR:
            self.bad_reply(hook, WireError("no tensor"))
        return reply.records[0]

    def drain_log(self) -> None:
        process = self._process
        before = process.log_fd
        process.drain_log(self._limits.log_bytes)
        if before >= 0 and process.log_fd < 0:
            self._poll.unregister(before)

    def kill(self, reason: str) -> None:
        self._kill_reason = reason
        self._process.kill()

    def close(self) -> None:
        self._failure = self._failure or error("PB_SANDBOX_FAILED", reason="the sandbox job is closed")
        self.drain_log()
        self._process.close()
        if self._arena is not None:
            self._arena.close()

    def bad_reply(self, hook: str, problem: WireError) -> NoReturn:
        """For a reply that no honest job sends: user code may have taken the process over."""
        self._fail(error("PB_EDIT_CRASHED", hook=hook, reason=f"bad reply: {problem}"))

    def _send(self, hook: str, data: bytes) -> None:
        if self._kill_reason is not None:
            self._ended(hook)  # the signal goes to the first process of its namespace: it may still answer for a moment
        if not self._roused:  # else it runs by now, and to move it would take longer than to share a core
            self._apart = self._process.keep_off_this_core()
        self._roused = False
        try:
            self._process.sock.send(data)
        except BlockingIOError:
            self.bad_reply(hook, WireError("it does not read"))
        except OSError:
            self._ended(hook)

    def _receive(self, hook: str, nonce: int, deadline: Deadline, begun: float) -> Message:
        """`begun` is when the request went out."""
        data = self._wait(hook, deadline, begun)
        try:
            reply = decode(data, self.arena.size)
            if reply.nonce != nonce or reply.kind not in REPLIES or reply.flags:
                raise WireError("not the reply to this request")
            if len(reply.records) != (reply.kind is Kind.TENSOR):
                raise WireError("wrong number of tensors")
            problem = from_report(reply.body, hook, self._limits) if reply.kind is Kind.ERROR else None
        except WireError as bad:
            self.bad_reply(hook, bad)
        if problem is not None:
            raise problem
        return reply

    def _wait(self, hook: str, deadline: Deadline, begun: float) -> bytes:
        """The next packet. What the job prints is read meanwhile: a full pipe would stop it."""
        limit, last = deadline.seconds, deadline.at
        if begun + self._seconds_left < last:
            limit, last = self._limits.job_timeout_s, begun + self._seconds_left
        sock = self._process.sock
        awake = AWAKE_S if self._apart else SPIN_S
        while True:
            try:
                data = soon(lambda: sock.recv(MAX_MESSAGE + 1), min(awake, last - time.monotonic()))
            except OSError:
                data = b""
            if data == b"":
                self._ended(hook)
            now = time.monotonic()
            if data is not None:
                self._seconds_left -= now - begun
                return data
            if now >= last:
                where = self._process.where(self._limits.log_bytes)
                self._fail(error("PB_EDIT_TIMEOUT", hook=hook, seconds=f"{limit:g}", remote=where))
            awake = SPIN_S
            self._process.share_every_core()
            if self._process.log_fd in [fd for fd, _ in self._poll.poll((last - now) * 1000)]:
                self.drain_log()

    def _ended(self, hook: str) -> NoReturn:
        end = self._process.exit()
        if end is None and not self._process.ended(ENDING_S):  # an empty packet looks like an end, too
            self.bad_reply(hook, WireError("it has closed its connection"))
        self._fail(from_exit(end, hook, self._limits))

    def _fail(self, problem: PatchbayError) -> NoReturn:
        """Kills the process and remembers why; a `kill` from outside is the better reason."""
        self._process.kill()
        if self._kill_reason is not None:
            problem = error("PB_JOB_CANCELLED", reason=self._kill_reason)
        self._failure = self._failure or problem
        raise self._failure
