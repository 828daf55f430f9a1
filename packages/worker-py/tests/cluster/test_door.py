"""Doors of a worker: a stranger who connects, or a set-up that would let one in, is turned away and harms nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from patchbay_worker.cluster.rank.loop import Hello
from patchbay_worker.cluster.rank_links import RankLinks
from patchbay_worker.engine.pipeline.edit_links import RemoteSandbox, _Service
from patchbay_worker.frames import Frame

STRANGERS = [
    Frame("hello", {"token": "wrong"}).encode(),
    Frame("hello", {"token": "é"}).encode(),
    Frame("hello", {"token": None}).encode(),
    Frame("hello").encode(),
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff" * 64,
    b"",
]


def test_the_edit_service_lets_in_whoever_has_the_token() -> None:
    service = _Service("127.0.0.1")
    place = service._listener.getsockname()[:2]
    accepting = threading.Thread(target=service.accept, args=(1,), daemon=True)
    accepting.start()
    for data in STRANGERS:
        with socket.create_connection(place, timeout=10) as stranger:
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b"", data
    assert accepting.is_alive(), "it waits for its own"
    own = RemoteSandbox(place[0], place[1], service._token)
    accepting.join(10)
    assert not accepting.is_alive()
    own.close()
    service.close()


@pytest.mark.parametrize("token", ["wrong", "é", "\ud800", None, 7])
def test_a_control_connection_needs_the_token(token: object) -> None:
    links = RankLinks(1, 1, "right", lambda *_: None, lambda *_: None)
    hello = vars(Hello(rank=0, epoch=1, token="", pid=1, address="h", master_port=1))
    assert links.admit(None, Frame("hello", hello | {"token": token})) is None  # type: ignore[arg-type] # no link
    assert links.admit(None, Frame("hello", hello | {"token": "right"})) is not None  # type: ignore[arg-type] # no link


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_gateway_without_a_token_does_not_listen_to_the_network(host: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PATCHBAY_GATEWAY_TOKEN"}
    command = [sys.executable, "-m", "patchbay_worker.gateway", "--port", "0", "--host", host]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "set PATCHBAY_GATEWAY_TOKEN" in done.stderr
