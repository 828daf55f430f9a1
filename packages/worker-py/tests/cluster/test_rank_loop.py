"""A rank's loop on a socket of its own, without a supervisor: what happens between two frames."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from patchbay_worker.cluster.rank.loop import Hello, RankLoop
from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.frames import Frame, FrameSocket
from support.documents import job
from support.fake_engine import Engine


class HeldSocket(FrameSocket):
    """`after` is called on the rank's fixed thread when a frame of this kind has been sent."""

    after: Callable[[Frame], None] = staticmethod(lambda _: None)

    def send(self, frame: Frame) -> None:
        super().send(frame)
        self.after(frame)


@dataclass
class Rank:
    """The supervisor's end."""

    socket: FrameSocket
    own: HeldSocket
    heard: list[str] = field(default_factory=list)

    def next(self, kind: str) -> Frame:
        while (frame := self.socket.receive()) is not None:
            self.heard.append(frame.type)
            if frame.type == kind:
                return frame
        raise AssertionError(f"no {kind} after {self.heard}")

    def execute(self, name: str, do: str) -> None:
        start = {"deadlineUnixMs": 0, "artifactUrl": "", "ticket": ""}
        self.socket.send(Frame("execute", {**key(name), **start}, json.dumps(job(do)).encode()))


def key(name: str) -> dict[str, object]:
    return {"job": name, "attempt": 1, "epoch": 1}


@pytest.fixture
def rank() -> Iterator[Rank]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.settimeout(60)
    own = HeldSocket(theirs)
    config = EngineConfig("fake:tiny", "m", 1, 0, 1, "", 0)
    loop = RankLoop(own, Hello(0, 1, "", 0, "", 0), lambda _, on_weights: Engine(config, on_weights), lambda _: None)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    with ours:
        supervisor = FrameSocket(ours)
        rank = Rank(supervisor, own)
        rank.next("hello")
        supervisor.send(Frame("load", {"model": "m", "worldSize": 1}))
        rank.next("ready")
        yield rank
        supervisor.send(Frame("stop"))
        thread.join(60)


def test_a_cancel_that_comes_before_the_last_job_is_put_away_is_heard(rank: Rank) -> None:
    read = threading.Event()

    def next_job_at_once(frame: Frame) -> None:
        if frame.type == "done":
            rank.own.after = lambda _: None
            read.wait(60)  # this thread still has the first job in hand

    rank.own.after = next_job_at_once
    rank.execute("first", "nothing")
    rank.next("done")
    rank.execute("second", "wait")
    rank.socket.send(Frame("cancel", {**key("second"), "reason": "changed my mind"}))
    rank.socket.send(Frame("ping"))
    rank.next("pong")
    read.set()
    failed = rank.next("failed")
    assert (failed.fields["job"], json.loads(failed.body)["code"]) == ("second", "PB_JOB_CANCELLED")


def test_a_cancel_of_an_earlier_attempt_says_nothing_of_the_next(rank: Rank) -> None:
    rank.socket.send(Frame("cancel", {**key("again"), "attempt": 0, "reason": "old"}))
    rank.execute("again", "nothing")
    assert rank.next("done").fields["job"] == "again"
