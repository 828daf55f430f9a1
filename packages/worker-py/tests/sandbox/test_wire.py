"""The parser against what a hostile job may write, and the worker against a peer that does not keep to the wire."""

from __future__ import annotations

import os
import pickle
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchbay_worker.sandbox.arena import Arena
from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.job_process import JobProcess
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.layout import IN_OFFSET
from patchbay_worker.sandbox.wire.message import (
    HEADER,
    MAGIC,
    MAX_JSON,
    MAX_MESSAGE,
    RECORD,
    Kind,
    TensorRecord,
    WireError,
    decode,
    encode,
)
from patchbay_worker.sandbox.wire.text import plain_text

from .support import refused

ARENA = 1 << 20
F32 = 11


def header(
    kind: int = Kind.TENSOR, records: int = 0, nonce: int = 1, json_bytes: int = 0, magic: bytes = MAGIC
) -> bytes:
    return HEADER.pack(magic, kind, records, 0, nonce, json_bytes)


def record(
    dtype: int = F32, dims: int = 1, offset: int = IN_OFFSET, nbytes: int = 16, sizes: tuple[int, ...] = (4,)
) -> bytes:
    return RECORD.pack(dtype, dims, 0, 0, offset, nbytes, *(sizes + (0,) * 8)[:8])


def with_json(text: bytes) -> bytes:
    return header(Kind.OK, json_bytes=len(text)) + text


BAD = {
    "empty": b"",
    "one byte": b"x",
    "garbage": os.urandom(200),
    "pickle": pickle.dumps({"a": 1}),
    "bad magic": header(magic=b"PBS9"),
    "unknown kind": header(99),
    "500 tensors": header(records=255) + record() * 200,
    "missing record": header(records=1),
    "trailing bytes": header(Kind.OK) + b"x",
    "unknown dtype": header(records=1) + record(dtype=99),
    "dims 200": header(records=1) + record(dims=200),
    "size negative": header(records=1) + record(sizes=(-4,)),
    "sizes overflow": header(records=1) + record(dims=8, sizes=(2**30,) * 8),
    "wraps to 16 bytes": header(records=1) + record(dims=2, sizes=(2**62, 4)),
    "wrong bytes": header(records=1) + record(nbytes=20),
    "past the end": header(records=1) + record(offset=ARENA - 8),
    "offset 2**63": header(records=1) + record(offset=2**63),
    "unaligned": header(records=1) + record(offset=IN_OFFSET + 1),
    "sizes beyond dims": header(records=1) + record(sizes=(4, 4)),
    "deep JSON": with_json(b"[" * 16000),
    "deep object": with_json(b'{"a":' * 3000 + b"1" + b"}" * 3000),
    "half JSON": with_json(b'{"a":'),
    "JSON list": with_json(b"[1]"),
    "NaN": with_json(b'{"a":NaN}'),
    "huge number": with_json(b'{"a":' + b"9" * 10000 + b"}"),
    "not UTF-8": with_json(b'{"a":"\xff"}'),
    "long JSON": with_json(b" " * (MAX_JSON + 1)),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_malformed_message_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data, ARENA)


@given(st.binary(max_size=400))
def test_random_bytes_never_do_more_than_raise(data: bytes) -> None:
    for prefix in (b"", MAGIC, header(records=1), header(json_bytes=len(data))):
        try:
            decode(prefix + data, ARENA)
        except WireError:
            continue


@given(st.binary(min_size=RECORD.size, max_size=RECORD.size))
@settings(max_examples=300)
def test_a_record_that_passes_lies_inside_the_arena(raw: bytes) -> None:
    try:
        message = decode(header(records=1) + raw, ARENA)
    except WireError:
        return
    got = message.records[0]
    assert 0 <= got.offset <= got.offset + got.nbytes <= ARENA


@given(
    st.sampled_from(list(Kind)),
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 5), max_size=8),
    st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
)
def test_what_is_encoded_is_decoded(kind: Kind, nonce: int, shape: list[int], body: dict[str, object]) -> None:
    place = TensorRecord(torch.bfloat16, tuple(shape), IN_OFFSET)
    message = decode(encode(kind, nonce, (place,), body), 1 << 30)
    assert (message.kind, message.nonce, message.records, message.body) == (kind, nonce, (place,), body)


def test_an_arena_cannot_be_resized_by_whoever_holds_it() -> None:
    arena = Arena(ARENA)
    for size in (0, ARENA * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)
    arena.close()


def test_the_reserved_part_is_not_readable_as_a_tensor() -> None:
    arena = Arena(ARENA)
    with pytest.raises(WireError):
        arena.take(TensorRecord(torch.float32, (4,), 0))
    arena.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("x" * 30, "x" * 14 + " [cut]"),
    ],
)
def test_plain_text(text: str, shown: str) -> None:
    assert plain_text(text, 20) == shown


Answer = Callable[[bytes, socket.socket], None]


class HostileJob:
    """A peer in this process that sends what `answer` wants; it stands for user code that has taken the socket over."""

    def __init__(self, answer: Answer) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, self.log_write = os.pipe()
        self.status, self.status_write = os.pipe()
        self.child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        self.thread = threading.Thread(target=self._serve, args=(theirs, answer), daemon=True)
        self.thread.start()

    def _serve(self, sock: socket.socket, answer: Answer) -> None:
        start, fds, _, _ = socket.recv_fds(sock, MAX_MESSAGE, 1)
        os.close(fds[0])
        sock.send(reply_to(start))
        with suppress(BrokenPipeError, ConnectionResetError), sock:  # the worker hangs up on what it does not believe
            while data := sock.recv(MAX_MESSAGE):
                if HEADER.unpack_from(data)[1] == Kind.EDIT:
                    answer(data, sock)
                else:
                    sock.send(reply_to(data))

    def job(self) -> SandboxJob:
        process = JobProcess(self.child, os.pidfd_open(self.child), self.ours, self.log, self.status)
        job = SandboxJob(process, SandboxLimits(arena_bytes=ARENA))
        job.init(seed=0, sources=[EditSource("hostile", "")])
        return job

    def end(self, job: SandboxJob) -> None:
        job.close()
        os.waitpid(self.child, 0)
        os.close(self.log_write)
        os.close(self.status_write)
        self.thread.join(10)


def nonce_of(request: bytes) -> int:
    nonce: int = HEADER.unpack_from(request)[4]
    return nonce


def reply_to(request: bytes) -> bytes:
    return encode(Kind.OK, nonce_of(request))


def tensor_reply(
    request: bytes, shape: tuple[int, ...] = (4,), offset: int = IN_OFFSET, nonce: int | None = None
) -> bytes:
    place = TensorRecord(torch.float32, shape, offset)
    return encode(Kind.TENSOR, nonce_of(request) if nonce is None else nonce, (place,))


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "stale nonce": lambda request: tensor_reply(request, nonce=nonce_of(request) ^ 1),
    "another shape": lambda request: tensor_reply(request, shape=(2, 2)),
    "no tensor": reply_to,
    "reserved offset": lambda request: tensor_reply(request, offset=0),
    "a request": lambda request: encode(Kind.EDIT, nonce_of(request)),
    "unknown error": lambda request: encode(Kind.ERROR, nonce_of(request), (), {"kind": "other"}),
    "error without text": lambda request: encode(Kind.ERROR, nonce_of(request), (), {"kind": "failed"}),
    "error with a huge line": lambda request: encode(
        Kind.ERROR, nonce_of(request), (), {"kind": "failed", "type": "", "text": "", "traceback": "", "line": 2**40}
    ),
    "garbage": lambda _: b"\x80\x04garbage",
    "too long": lambda _: b"x" * (MAX_MESSAGE + 100),
    "flags": lambda request: struct.pack("<4sBBHQI", MAGIC, Kind.OK, 0, 1, nonce_of(request), 0),
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_bad_reply_ends_the_job(reply: Callable[[bytes], bytes]) -> None:
    hostile = HostileJob(lambda request, sock: sock.sendall(reply(request)))
    job = hostile.job()
    problem = refused("PB_EDIT_CRASHED", lambda: job.edit(source=0, tensor=torch.zeros(4), current_module={}))
    assert "bad reply" in problem.message
    assert os.waitid(os.P_PID, hostile.child, os.WEXITED | os.WNOWAIT) is not None, "the process must be killed"
    hostile.end(job)


def test_a_reply_before_its_request_ends_the_job() -> None:
    def twice(request: bytes, sock: socket.socket) -> None:
        sock.send(tensor_reply(request))
        sock.send(tensor_reply(request))

    hostile = HostileJob(twice)
    job = hostile.job()

    def two_edits() -> None:
        for _ in range(2):
            job.edit(source=0, tensor=torch.zeros(4), current_module={})
            assert wait_for_input(hostile.ours)

    assert "not the reply to this request" in refused("PB_EDIT_CRASHED", two_edits).message
    hostile.end(job)


def wait_for_input(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(10_000))


def test_an_honest_peer_passes_here() -> None:
    """The control: without it the tests above could pass because the harness is broken."""
    hostile = HostileJob(lambda request, sock: sock.sendall(tensor_reply(request)))
    job = hostile.job()
    assert torch.equal(job.edit(source=0, tensor=torch.ones(4), current_module={}), torch.ones(4))
    hostile.end(job)
