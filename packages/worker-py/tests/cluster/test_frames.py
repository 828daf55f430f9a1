"""Frames over a byte stream that is cut anywhere."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchbay_worker.frames import BrokenFrame, Frame, FrameParser, FrameSocket

FRAMES = [Frame("execute", {"job": "ä", "attempt": 1}, b"\x00body"), Frame("ping"), Frame("done", {}, b"x" * 5000)]
STREAM = b"".join(frame.encode() for frame in FRAMES)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_frames_are_found_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parser = FrameParser()
    found = [frame for left, right in pairwise(edges) for frame in parser.feed(STREAM[left:right])]
    assert found == FRAMES


@pytest.mark.parametrize(
    "data", [b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"\x01\0\0\0\0\0\0\0{"]
)
def test_another_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameParser().feed(data)


def test_a_socket_carries_frames_until_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    with left, right:
        sender, receiver = FrameSocket(left), FrameSocket(right)
        for frame in FRAMES:
            sender.send(frame)
        left.shutdown(socket.SHUT_WR)
        assert [receiver.receive() for _ in FRAMES] == FRAMES
        assert receiver.receive() is None
