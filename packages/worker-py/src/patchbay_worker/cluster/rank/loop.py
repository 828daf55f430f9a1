"""A rank's life on its control socket: says hello, loads the engine when told to, runs jobs one after the other on one
fixed thread (autograd's mode and OpenMP's team are per thread), while a second thread answers pings, cancels and
validations. Not here: Ray (`actor.py`), what a job does (engine/).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from patchbay_worker.artifacts.transfer import ArtifactStore
from patchbay_worker.cluster.rank.job import JobFrame, encode_json, finish
from patchbay_worker.contract import parse_document
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.frames import BrokenFrame, Frame, FrameSocket

if TYPE_CHECKING:
    from patchbay_worker.engine.engine import Engine
    from patchbay_worker.engine.job.prepare import PreparedJob

log = logging.getLogger(__name__)

#: Loads the engine as the supervisor's `load` frame says, and tells now and then which part of the weights it has read.
Load = Callable[[dict[str, Any], Callable[[float], None]], "Engine"]
#: Ends the process; returns only in tests.
Leave = Callable[[str], None]


@dataclass(frozen=True)
class Hello:
    """How a rank proves that it belongs to an epoch."""

    rank: int
    epoch: int
    token: str
    pid: int
    address: str
    #: Free on this node when asked; rank 0's becomes the port where the torch world meets.
    master_port: int

    def frame(self) -> Frame:
        return Frame("hello", dict(vars(self)))


class RankLoop:
    """`run` is the fixed thread."""

    def __init__(self, socket: FrameSocket, hello: Hello, load: Load, leave: Leave) -> None:
        self._socket = socket
        self._hello = hello
        self._load = load
        self._leave = leave
        self._inbox: SimpleQueue[Frame] = SimpleQueue()
        self._engine: Engine | None = None
        self._cancel_order: Frame | None = None
        self._store = ArtifactStore()

    def run(self) -> None:
        """Returns when told to stop, or when the model could not be loaded."""
        self._socket.send(self._hello.frame())
        threading.Thread(target=self._read, name="control", daemon=True).start()
        order = self._inbox.get()
        if order.type != "load":
            return
        try:
            engine = self._engine = self._load(order.fields, self._tell_weights)
        except Exception as problem:
            self._report_failed_load(order, problem)
            return
        alone = int(order.fields["worldSize"]) == 1
        self._socket.send(
            Frame("ready", {"rank": self._hello.rank, "memory": engine.memory}, encode_json(engine.description))
        )
        while (frame := self._inbox.get()).type != "stop":
            if frame.type == "execute":
                self._run_job(engine, JobFrame(frame, self._store), alone)
        engine.close()

    def _tell_weights(self, fraction: float) -> None:
        self._socket.send(Frame("loading", {"fraction": round(fraction, 3)}))

    def _report_failed_load(self, order: Frame, problem: Exception) -> None:
        typed = isinstance(problem, PatchbayError)
        if not typed:
            log.exception("rank %d: the model cannot be loaded", self._hello.rank)
        reason = f"{type(problem).__name__}: {problem}"
        told = (
            problem
            if isinstance(problem, PatchbayError)
            else error("PB_MODEL_LOAD_FAILED", model=order.fields["model"], reason=reason)
        )
        self._socket.send(Frame("failed", {"typed": typed}, encode_json(told.to_json())))

    # the fixed thread

    def _run_job(self, engine: Engine, job: JobFrame, alone: bool) -> None:
        try:
            with job.spans.during("prepare"):
                document = parse_document(job.document, limited=False)
                prepared = engine.prepare(job.context(document))
            # The engine knows a job from here on; a cancel that came before is told again.
            if (order := self._cancel_order) is not None and job.is_of(order):
                engine.cancel(job.key["job"], str(order.fields["reason"]))
        except Exception as problem:
            # Nothing has moved between ranks yet, so even a fault of ours costs this job only.
            self._send_failed(job, problem)
            return
        self._socket.send(Frame("prepared", job.key))
        if not alone and not self._may_go(job, prepared):
            return
        try:
            output = engine.execute(
                prepared, lambda event: self._socket.send(Frame("event", job.key, encode_json(event)))
            )
        except PatchbayError as problem:
            self._send_failed(job, problem)
            return
        except BaseException as problem:
            self._lose(job, problem)
            return
        try:
            with job.spans.during("write"):
                body = finish(output, job) if output is not None else b""
        except Exception as problem:
            self._send_failed(job, problem)
            return
        self._send_spans(job)
        self._socket.send(Frame("done", job.key, body))

    def _may_go(self, job: JobFrame, prepared: PreparedJob) -> bool:
        """Waits for the verdict over all ranks."""
        while True:
            frame = self._inbox.get()
            if frame.type == "go" and job.is_of(frame):
                return True
            if frame.type == "stop" or (frame.type == "abort" and job.is_of(frame)):
                prepared.discard()
                if frame.type == "stop":
                    self._inbox.put(frame)
                return False

    def _send_failed(self, job: JobFrame, problem: Exception) -> None:
        if not isinstance(problem, PatchbayError):
            log.exception("rank %d: job %s failed", self._hello.rank, job.key["job"])
            problem = error("PB_INTERNAL", reason=f"{type(problem).__name__}: {problem}")
        self._send_spans(job)
        self._socket.send(Frame("failed", job.key, encode_json(problem.to_json())))

    def _send_spans(self, job: JobFrame) -> None:
        if job.spans.wanted:
            told = job.spans.to_json(f"rank {self._hello.rank}")
            self._socket.send(Frame("spans", job.key, encode_json(told)))

    def _lose(self, job: JobFrame, problem: BaseException) -> None:
        """Between collectives nothing can be saved: the other ranks may be waiting for this one."""
        log.exception("rank %d is lost in job %s", self._hello.rank, job.key["job"])
        reason = f"rank {self._hello.rank}: {type(problem).__name__}: {problem}"
        self._socket.send(Frame("lost", {**job.key, "reason": reason}))
        self._leave(reason)

    # the control thread

    def _read(self) -> None:
        try:
            while (frame := self._socket.receive()) is not None:
                self._take(frame)
            reason = "the supervisor closed the control socket"
        except TimeoutError:
            reason = "the supervisor is silent"
        except (OSError, BrokenFrame) as problem:
            reason = f"the control socket broke: {problem}"
        self._leave(reason)

    def _take(self, frame: Frame) -> None:
        if frame.type == "ping":
            self._socket.send(Frame("pong"))
        elif frame.type == "cancel":
            self._cancel(frame)
        elif frame.type == "validate":
            # It may take seconds, and pings are answered here.
            threading.Thread(target=self._validate, args=(frame,), name="validate", daemon=True).start()
        else:
            self._inbox.put(frame)

    def _cancel(self, order: Frame) -> None:
        # The last one is enough: the supervisor cancels only what it has sent, and sends one job at a time.
        self._cancel_order = order
        if self._engine is not None:
            self._engine.cancel(str(order.fields["job"]), str(order.fields["reason"]))

    def _validate(self, frame: Frame) -> None:
        fields = {"id": frame.fields["id"]}
        try:
            if self._engine is None:
                raise error("PB_INTERNAL", reason="a validation before the model is loaded")
            answer = self._engine.validate(parse_document(frame.body, limited=False))
            self._socket.send(Frame("validated", {**fields, "ok": True}, encode_json(answer)))
        except Exception as problem:
            if not isinstance(problem, PatchbayError):
                log.exception("a validation failed")
                problem = error("PB_INTERNAL", reason=f"{type(problem).__name__}: {problem}")
            self._socket.send(Frame("validated", {**fields, "ok": False}, encode_json(problem.to_json())))
