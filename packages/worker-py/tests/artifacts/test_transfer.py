"""The store's client against a small HTTP server that misbehaves as told."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from patchbay_worker.artifacts.result_files import INLINE_LIMIT, place_files
from patchbay_worker.artifacts.transfer import ArtifactStore
from patchbay_worker.errors import PatchbayError, error


class Store(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.connections = 0
        self.drop_next = 0
        self.half_close_next = 0
        self.most_bytes: int | None = None
        self.gone = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _accepted(self) -> str | None:
        """The digest asked for; None after a refusal or a dropped connection."""
        if self.server.drop_next > 0:
            self.server.drop_next -= 1
            self.close_connection = True
            self.connection.close()
            return None
        if self.headers["authorization"] != "Bearer ticket":
            self._answer(401, json.dumps(error("PB_UNAUTHORIZED").to_json()).encode())
            return None
        return self.path.removeprefix("/api/artifacts/")

    def do_PUT(self) -> None:
        if self.server.half_close_next > 0:
            self.server.half_close_next -= 1
            self.connection.shutdown(socket.SHUT_RDWR)  # and takes no byte more: its window stays shut
            self.server.gone.wait()
            return
        if self.server.most_bytes is not None and int(self.headers["content-length"]) > self.server.most_bytes:
            self.close_connection = True
            self._answer(
                413, json.dumps(error("PB_LIMIT_EXCEEDED", what="artifact", actual=2, limit=1).to_json()).encode()
            )
            self.server.gone.wait()
            return
        body = self.rfile.read(int(self.headers["content-length"]))
        if (sha256 := self._accepted()) is not None:
            self.server.files[sha256] = body
            self._answer(201, b"{}")

    def do_GET(self) -> None:
        if (sha256 := self._accepted()) is not None:
            found = self.server.files.get(sha256)
            self._answer(404 if found is None else 200, found or b"{}")


@pytest.fixture
def server() -> Iterator[Store]:
    with Store() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.gone.set()
        running.shutdown()
        thread.join()


def test_bytes_go_and_come_back_over_one_connection(server: Store) -> None:
    store = ArtifactStore(server.url, "ticket")
    sha256 = store.put(b"content")
    assert sha256 == hashlib.sha256(b"content").hexdigest()
    assert store.get(f"sha256:{sha256}") == b"content"
    assert server.connections == 1


def test_a_dropped_connection_is_tried_again(server: Store) -> None:
    store = ArtifactStore(server.url, "ticket")
    store.put(b"first")
    server.drop_next = 2
    assert store.put(b"second") in server.files
    assert server.connections == 3


def test_a_store_that_hangs_up_while_it_is_sent_something_large_is_asked_again_at_once(server: Store) -> None:
    server.half_close_next = 1
    began = time.monotonic()
    assert ArtifactStore(server.url, "ticket").put(bytes(50_000_000)) in server.files
    assert time.monotonic() - began < 30, "the socket's own time-out is a minute"


def test_a_refusal_before_the_last_byte_is_read(server: Store) -> None:
    server.most_bytes = 1000
    store = ArtifactStore(server.url, "ticket")
    with pytest.raises(PatchbayError) as caught:
        store.put(bytes(50_000_000))
    assert caught.value.code == "PB_LIMIT_EXCEEDED"
    assert store.put(b"small") in server.files, "over another connection, since the first is out of step"


def test_a_store_that_is_away_is_a_retryable_error(server: Store) -> None:
    server.drop_next = 100
    with pytest.raises(PatchbayError) as caught:
        ArtifactStore(server.url, "ticket").put(b"x")
    assert (caught.value.code, caught.value.retryable) == ("PB_ORCHESTRATOR_UNAVAILABLE", True)


def test_refusals_are_typed(server: Store) -> None:
    store = ArtifactStore(server.url, "ticket")
    absent, spoiled = "0" * 64, "1" * 64
    server.files[spoiled] = b"something else"
    for reference, code in ((absent, "PB_ARTIFACT_NOT_FOUND"), (spoiled, "PB_ARTIFACT_CORRUPT")):
        with pytest.raises(PatchbayError) as caught:
            store.get(f"sha256:{reference}")
        assert caught.value.code == code
        assert f"sha256:{reference}" in caught.value.message
    with pytest.raises(PatchbayError) as caught:
        ArtifactStore(server.url, "stolen").put(b"x")
    assert caught.value.code == "PB_UNAUTHORIZED"


def test_small_files_travel_inside_of_the_result(server: Store) -> None:
    files = {"a": b"x" * (INLINE_LIMIT - 1), "logs.txt": b"y"}
    placed = place_files(files, ArtifactStore(server.url, "ticket"))
    assert {name: base64.b64decode(entry["inline"]) for name, entry in placed.items()} == files
    assert server.files == {}


def test_files_that_are_large_together_all_go_to_the_store(server: Store) -> None:
    files = {"a": b"x" * INLINE_LIMIT, "logs.txt": b"y"}
    placed = place_files(files, ArtifactStore(server.url, "ticket"))
    assert all("inline" not in entry for entry in placed.values())
    assert {name: server.files[entry["sha256"]] for name, entry in placed.items()} == files
    assert placed["a"]["bytes"] == INLINE_LIMIT
