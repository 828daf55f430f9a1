"""An address for results is tried with patience: an orchestrator may just be starting again."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from patchbay_worker.artifacts import reach
from patchbay_worker.artifacts.reach import require_reachable
from patchbay_worker.errors import PatchbayError


class Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_any_answer_will_do_also_a_late_one() -> None:
    port = free_port()

    def answer_later() -> None:
        time.sleep(1)
        with HTTPServer(("127.0.0.1", port), Refuses) as server:
            server.handle_request()

    server = threading.Thread(target=answer_later)
    server.start()
    started = time.monotonic()
    require_reachable(f"http://127.0.0.1:{port}/api/artifacts", "here")
    assert time.monotonic() - started > 0.9
    server.join()


def test_silence_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_PATIENCE_S", 1.0)
    port = free_port()
    with pytest.raises(PatchbayError, match="refused") as caught:
        require_reachable(f"http://127.0.0.1:{port}/api/artifacts", "here")
    assert caught.value.code == "PB_ARTIFACT_URL_UNREACHABLE"


def test_what_is_no_address_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(PatchbayError, match="PB_ARTIFACT_URL_UNREACHABLE"):
        require_reachable("nonsense", "here")
    assert time.monotonic() - started < 1
