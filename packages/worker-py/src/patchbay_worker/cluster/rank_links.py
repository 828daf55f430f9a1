"""The supervisor's end of the control sockets: listens, lets in exactly the ranks of one epoch, counts missed
heartbeats.
Not here: what the frames mean for a job (`gang.py`).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from patchbay_worker.cluster.rank.loop import Hello
from patchbay_worker.frames import MAX_BODY_BYTES, BrokenFrame, Frame, FrameParser

log = logging.getLogger(__name__)

PING_S: Final = 1.0
#: A rank that is importing torch holds the interpreter for seconds; one that is ready answers at once.
MISSES_READY: Final = 3
MISSES_LOADING: Final = 60
HELLO_S: Final = 10.0
MOST_STRANGERS: Final = 64
"""Who has not said hello: one more, and the oldest has to go, since a rank says it at once."""


class RankLink(asyncio.Protocol):
    """One connection. asyncio sets TCP_NODELAY by itself."""

    def __init__(self, links: RankLinks) -> None:
        self._links = links
        self._parser = FrameParser(limit=0)  # a hello has no body
        self._transport: asyncio.Transport | None = None
        self.hello: Hello | None = None
        self.ready = False
        self.misses = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance: Ray takes uvloop where it is installed, and its transports are no subclass.
        self._transport = cast(asyncio.Transport, transport)
        self._links.meet(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._parser.feed(data):
                self._take(frame)
        except (BrokenFrame, KeyError, TypeError) as problem:
            log.warning("a control connection broke the protocol: %r", problem)
            self.close()

    def _take(self, frame: Frame) -> None:
        self.misses = 0
        if self.hello is None:
            self.hello = self._links.admit(self, frame)
            if self.hello is None:
                self.close()
            self._parser.limit = MAX_BODY_BYTES
        elif frame.type != "pong":
            self._links.on_frame(self.hello.rank, frame)

    def connection_lost(self, problem: Exception | None) -> None:
        self._links.forget(self)
        if self.hello is not None:
            self._links.on_end(
                self.hello.rank, "its process ended" if problem is None else f"its connection broke: {problem}"
            )

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._links.forget(self)
        if self._transport is not None:
            self._transport.abort()


@dataclass
class RankLinks:
    """All links of one epoch."""

    size: int
    epoch: int
    token: str
    on_frame: Callable[[int, Frame], None]
    on_end: Callable[[int, str], None]
    _links: dict[int, RankLink] = field(default_factory=dict)
    _strangers: dict[RankLink, asyncio.TimerHandle] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _complete: asyncio.Event = field(default_factory=asyncio.Event)
    _heart: asyncio.Task[None] | None = None

    async def listen(self, host: str) -> int:
        """Returns the port."""
        self._server = await asyncio.get_running_loop().create_server(lambda: RankLink(self), host, 0)
        self._heart = asyncio.create_task(self._beat())
        return int(self._server.sockets[0].getsockname()[1])

    def meet(self, link: RankLink) -> None:
        """Somebody has connected: for a moment, and one of few, until it says hello."""
        if len(self._strangers) >= MOST_STRANGERS:
            next(iter(self._strangers)).close()
        self._strangers[link] = asyncio.get_running_loop().call_later(HELLO_S, link.close)

    def forget(self, link: RankLink) -> None:
        if (timer := self._strangers.pop(link, None)) is not None:
            timer.cancel()

    def admit(self, link: RankLink, frame: Frame) -> Hello | None:
        """A rank process belongs to one epoch; anything else at the door is turned away."""
        hello = Hello(**frame.fields) if frame.type == "hello" else None
        known = (
            hello is not None
            and hmac.compare_digest(str(hello.token).encode(errors="replace"), self.token.encode())
            and hello.epoch == self.epoch
        )
        if hello is None or not known or hello.rank in self._links or not 0 <= hello.rank < self.size:
            log.warning("a control connection was refused")
            return None
        self._links[hello.rank] = link
        self.forget(link)
        if len(self._links) == self.size:
            self._complete.set()
        return hello

    async def all_said_hello(self) -> list[Hello]:
        """In rank order."""
        await self._complete.wait()
        return [self._hello(rank) for rank in range(self.size)]

    def _hello(self, rank: int) -> Hello:
        hello = self._links[rank].hello
        assert hello is not None
        return hello

    def pids(self) -> dict[int, int]:
        return {rank: self._hello(rank).pid for rank in self._links}

    def mark_ready(self, rank: int) -> None:
        self._links[rank].ready = True

    def send(self, rank: int, frame: Frame) -> None:
        self._links[rank].send(frame.encode())

    def send_all(self, frame: Frame) -> None:
        data = frame.encode()
        for link in self._links.values():
            link.send(data)

    async def _beat(self) -> None:
        """A tick that comes late (this process was stopped) counts once, so it cannot condemn ranks that answer."""
        ping = Frame("ping").encode()
        while True:
            for rank, link in list(self._links.items()):
                if link.misses >= (MISSES_READY if link.ready else MISSES_LOADING):
                    self.on_end(rank, f"it did not answer {link.misses} pings")
                link.misses += 1
                link.send(ping)
            await asyncio.sleep(PING_S)

    async def close(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.close()
