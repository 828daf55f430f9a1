"""Doors of a worker: a stranger who connects, or a set-up that would let one in, is turned away and harms nobody."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from patchbay_protocol import worker_pb2 as pb
from patchbay_protocol import worker_pb2_grpc
from patchbay_worker.cluster import rank_links
from patchbay_worker.cluster.rank.loop import Hello
from patchbay_worker.cluster.rank_links import RankLinks
from patchbay_worker.engine.links import door, meeting
from patchbay_worker.engine.links.meeting import join
from patchbay_worker.engine.pipeline.edit_links import RemoteSandbox, _Service
from patchbay_worker.frames import Frame
from patchbay_worker.gateway.server import GatewayService

STRANGERS = [
    b"w" * 32,
    "é".encode() * 40,
    Frame("hello").encode(),
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff" * 64,
    b"",
]


def serving() -> tuple[_Service, tuple[str, int], str, threading.Thread]:
    """(it, where it listens, the token, the thread that waits for one connection)"""
    service = _Service("127.0.0.1")
    accepting = threading.Thread(target=service.accept, args=(1,), daemon=True)
    accepting.start()
    told = json.loads(service.meeting.invitation())
    return service, (told["host"], told["port"]), told["token"], accepting


def test_the_edit_service_lets_in_whoever_has_the_token() -> None:
    service, place, _, accepting = serving()
    for data in STRANGERS:
        with socket.create_connection(place, timeout=10) as stranger:
            stranger.sendall(data)
            with suppress(OSError):  # it may have been closed by now
                stranger.shutdown(socket.SHUT_WR)
            assert said_by(stranger) == b"", data
    assert accepting.is_alive(), "it waits for its own"
    own = RemoteSandbox(join(service.meeting.invitation()))
    accepting.join(10)
    assert not accepting.is_alive()
    own.close()
    service.close()


def test_half_open_connections_keep_nobody_out() -> None:
    service, place, token, accepting = serving()
    silent = [socket.create_connection(place, timeout=10) for _ in range(4 * door.MOST)]
    half = socket.create_connection(place, timeout=10)
    half.sendall(token[:-1].encode())
    own = RemoteSandbox(join(service.meeting.invitation()))
    accepting.join(door.SHOW_S + 10)
    assert not accepting.is_alive(), "before they are sent away by time"
    for each in (*silent, half):
        with each:
            assert said_by(each) == b"", "and then they are gone"
    own.close()
    service.close()


def test_a_stranger_has_little_time_and_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SHOW_S", 0.2)
    service, place, token, accepting = serving()
    with socket.create_connection(place, timeout=10) as slow:
        slow.sendall(token[:5].encode())
        assert said_by(slow) == b"", "it is sent away"
    with socket.create_connection(place, timeout=10) as loud, pytest.raises((ConnectionResetError, BrokenPipeError)):
        loud.sendall(b"\xff\xff\x00\x00\x00\x00\x00\x10" * (8 << 20))
    assert accepting.is_alive()
    RemoteSandbox(join(service.meeting.invitation())).close()
    accepting.join(10)
    assert not accepting.is_alive()
    service.close()


def test_who_never_comes_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "CONNECT_S", 0.2)
    service = _Service("127.0.0.1")
    with pytest.raises(TimeoutError, match="0 of 2 connections"):
        service.accept(2)
    service.close()


def said_by(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:  # what it had said was not read
        return b""


@pytest.mark.parametrize("token", ["wrong", "é", "\ud800", None, 7])
def test_a_control_connection_needs_the_token(token: object) -> None:
    links = RankLinks(1, 1, "right", lambda *_: None, lambda *_: None)
    hello = vars(Hello(rank=0, epoch=1, token="", pid=1, address="h", master_port=1))
    assert links.admit(None, Frame("hello", hello | {"token": token})) is None  # type: ignore[arg-type] # no link
    assert links.admit(None, Frame("hello", hello | {"token": "right"})) is not None  # type: ignore[arg-type] # no link


async def knock(place: tuple[str, int], data: bytes) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection(*place)
    KEPT.append(writer)
    writer.write(data)
    return reader


async def gone(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 10) == b""
    except ConnectionResetError:
        return True


KEPT: list[asyncio.StreamWriter] = []
HELLO = vars(Hello(rank=0, epoch=1, token="right", pid=1, address="h", master_port=1))


@asynccontextmanager
async def control() -> AsyncIterator[tuple[RankLinks, tuple[str, int]]]:
    links = RankLinks(1, 1, "right", lambda *_: None, lambda *_: None)
    try:
        yield links, ("127.0.0.1", await links.listen("127.0.0.1"))
    finally:
        for writer in KEPT:
            writer.close()
        KEPT.clear()
        await links.close()


Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Loop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""Ray runs a supervisor on uvloop where it finds it, and on asyncio's own elsewhere."""


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Loop:
    return LOOPS[request.param]


def run(scene: Coroutine[Any, Any, None], loop: Loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene)


@pytest.mark.parametrize(
    "data",
    [
        Frame("hello", HELLO | {"token": "wrong"}).encode(),
        Frame("hello", HELLO | {"epoch": 2}).encode(),
        Frame("hello", HELLO | {"rank": 1}).encode(),
        Frame("hello", HELLO | {"rank": []}).encode(),
        Frame("hello", HELLO | {"more": 1}).encode(),
        Frame("hello", {}).encode(),
        Frame("result", HELLO).encode(),
        Frame("hello", HELLO, b"a body").encode(),
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_stranger_at_the_control_port_is_sent_away(data: bytes, loop: Loop) -> None:
    async def scene() -> None:
        async with control() as (links, place):
            assert await gone(await knock(place, data))
            await knock(place, Frame("hello", HELLO).encode())
            assert [hello.token for hello in await asyncio.wait_for(links.all_said_hello(), 10)] == ["right"]

    run(scene(), loop)


def test_half_open_control_connections_keep_no_rank_out(monkeypatch: pytest.MonkeyPatch, loop: Loop) -> None:
    monkeypatch.setattr(rank_links, "HELLO_S", 1.0)

    async def scene() -> None:
        async with control() as (links, place):
            silent = [await knock(place, b"\x10") for _ in range(3 * rank_links.MOST_STRANGERS)]
            rank = await knock(place, Frame("hello", HELLO).encode())
            await asyncio.wait_for(links.all_said_hello(), 10)
            assert all(await asyncio.gather(*map(gone, silent))), "in time they are gone"
            links.send(0, Frame("order"))
            assert await asyncio.wait_for(rank.read(4), 10) != b"", "and the rank is not"

    run(scene(), loop)


@pytest.mark.parametrize("method", [method.name for method in pb.DESCRIPTOR.services_by_name["Gateway"].methods])
def test_no_call_of_the_gateway_goes_without_the_token(method: str) -> None:
    async def scene() -> dict[str, object]:
        server = grpc.aio.server()
        nothing: Any = object()
        worker_pb2_grpc.add_GatewayServicer_to_server(GatewayService(nothing, nothing, "right"), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return {given: await code_of(channel, method, given) for given in ("", "wrong", "rightx", "right")}
        finally:
            await server.stop(None)

    refused = grpc.StatusCode.UNAUTHENTICATED
    codes = asyncio.run(scene())
    assert codes.pop("right") is not refused, "it is the token that is asked for"
    assert set(codes.values()) == {refused}


async def code_of(channel: grpc.aio.Channel, method: str, token: str) -> grpc.StatusCode:
    stream: Any = channel.unary_stream
    call = stream(f"/patchbay.v1.Gateway/{method}")
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        async for _ in call(b"", metadata=metadata, timeout=5):
            break
    except grpc.aio.AioRpcError as problem:
        return problem.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_gateway_without_a_token_does_not_listen_to_the_network(host: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PATCHBAY_GATEWAY_TOKEN"}
    command = [sys.executable, "-m", "patchbay_worker.gateway", "--port", "0", "--host", host]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "set PATCHBAY_GATEWAY_TOKEN" in done.stderr
