"""User code that speaks for its process: forged, replayed and malformed replies, lying manifests, memory that changes.

Here the real job process is taken over from inside; test_wire.py has the same for single packets, without a process.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.plan import Level, Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.wire.message import HEADER

from ..support import refused, run
from .conftest import LEVELS, PoolOf, Watch, parent_of, start

# `forge(data)` gives the packets that go out instead of a reply; `old` has all earlier replies.
TAKE_OVER = """
import os, struct
real, old = os.write, []
def forge(data):
    {forge}
def write(fd, data):
    if fd != 3: return real(fd, data)
    for packet in forge(data): real(fd, packet)
    old.append(data)
if os.write is real: os.write = write
return inputs
"""

PACKETS = {
    "a nonce of its own": "return [data[:8] + b'\\0' * 8 + data[16:]]",
    "a nonce that is off by one bit": "return [data[:8] + bytes([data[8] ^ 1]) + data[9:]]",
    "the reply of before": "return [old[-1] if old else data]",
    "its own request": "return [data[:4] + b'\\x05' + data[5:]]",
    "a START": "return [data[:4] + b'\\x01' + data[5:]]",
    "another magic": "return [b'PBS2' + data[4:]]",
    "flags": "return [data[:6] + b'\\1\\0' + data[8:]]",
    "half a header": "return [data[:11]]",
    "a header alone": "return [data[:20]]",
    "a byte too few": "return [data[:-1]]",
    "a byte too many": "return [data + b'x']",
    "a hundred kilobytes": "return [data + b'x' * 100_000]",
    "JSON to the end of the earth": "return [data[:16] + struct.pack('<I', 2**32 - 1) + data[20:]]",
    "more tensors than sent": "return [data[:5] + b'\\x10' + data[6:]]",
    "no tensor": "return [data[:5] + b'\\0' + data[6:20]]",
    "two tensors": "return [data[:5] + b'\\2' + data[6:20] + data[20:] * 2]",
    "a tensor in the reserved part": "return [data[:28] + struct.pack('<Q', 0) + data[36:]]",
    "a tensor past the end": "return [data[:28] + struct.pack('<Q', 2**63) + data[36:]]",
    "an odd address": "return [data[:28] + struct.pack('<Q', 65537) + data[36:]]",
    "another dtype": "return [data[:20] + b'\\x0c' + data[21:]]",
    "no such dtype": "return [data[:20] + b'\\xff' + data[21:]]",
    "two hundred dims": "return [data[:21] + b'\\xc8' + data[22:]]",
    "another size": "return [data[:44] + struct.pack('<q', 3) + data[52:]]",
    "a size below zero": "return [data[:44] + struct.pack('<q', -1) + data[52:]]",
    "a size that wraps": "return [data[:44] + struct.pack('<q', 2**62) + data[52:]]",
    "garbage": "return [b'\\x80\\x04\\x95garbage']",
    "one reply, twice": "return [data, data]",
    "a hundred replies": "return [data] * 100",
}


def test_the_offsets_above_are_those_of_the_wire() -> None:
    assert (HEADER.size, struct.calcsize("<4sBBH"), struct.calcsize("<BBHI")) == (20, 8, 8)


def test_a_forged_reply_ends_the_job(pool_of: PoolOf) -> None:
    pool, wrong = pool_of(Plan()), {}
    with Watch(pool):
        for name, forge in PACKETS.items():
            with start(pool, TAKE_OVER.format(forge=forge)) as job:
                try:
                    for _ in range(3):  # a second reply is only seen at the next request
                        run(job)
                    wrong[name] = "it came back"
                except PatchbayError as problem:
                    if problem.code != "PB_EDIT_CRASHED" or "bad reply" not in problem.message:
                        wrong[name] = str(problem)
                assert job.ended(), name
    assert wrong == {}


def test_the_same_take_over_with_honest_replies_passes(pool_of: PoolOf) -> None:
    with start(pool_of(Plan()), TAKE_OVER.format(forge="return [data]")) as job:
        for _ in range(3):
            run(job)
        job.collect()


ERRORS = {
    "no such kind": '{"kind": "root"}',
    "no text": '{"kind": "failed"}',
    "a line that is none": '{"kind": "failed", "type": "", "text": "", "traceback": "", "line": true}',
    "a line beyond": '{"kind": "failed", "type": "", "text": "", "traceback": "", "line": 1e999}',
    "a shape of texts": '{"kind": "shape", "expected": ["a"], "actual": []}',
    "a list": "[]",
    "NaN": '{"kind": NaN}',
    "deep": '{"kind": ' + "[" * 8000 + "]" * 8000 + "}",
    "a huge number": '{"kind": ' + "9" * 9000 + "}",
}
ANSWER = "return [struct.pack('<4sBBHQI', b'PBS1', 66, 0, 0, struct.unpack_from('<Q', data, 8)[0], len(text)) + text]"


def test_a_forged_error_ends_the_job(pool_of: PoolOf) -> None:
    pool, wrong = pool_of(Plan()), {}
    with Watch(pool):
        for name, text in ERRORS.items():
            body = TAKE_OVER.format(forge=ANSWER).replace("def forge", f"text = {text.encode()!r}\ndef forge")
            with start(pool, body) as job:
                run(job)  # this reply is still its own
                problem = refused("PB_EDIT_CRASHED", partial(run, job))
                if "bad reply" not in problem.message:
                    wrong[name] = problem.message
    assert wrong == {}


MANIFESTS = {
    "no manifest": "b''",
    "no JSON": "b'{'",
    "a number beyond a double": '{"tensors": [], "warnings": [], "values": {"x": 1e999}}',
    "no values": '{"tensors": [], "warnings": []}',
    "values too deep": '{"tensors": [], "warnings": [], "values": {"x": ' + "[" * 90 + "]" * 90 + "}}",
    "a warning that is none": '{"tensors": [], "warnings": [1], "values": {}}',
    "a thousand warnings": '{"tensors": [], "warnings": [' + ",".join(['"w"'] * 1000) + '], "values": {}}',
    "half a character": '{"tensors": [], "warnings": [], "values": {"x": "\\\\ud800"}}',
    "a name that climbs": "../../etc/passwd",
    "a name with a null": "a\\\\u0000b",
    "an empty name": "",
    "a long name": "n" * 999,
}
ENTRIES: dict[str, dict[str, object]] = {
    "no such section": {"section": "weights"},
    "no such dtype": {"dtype": "object"},
    "a size below zero": {"shape": [-1]},
    "a size that is true": {"shape": [True]},
    "a size in parts": {"shape": [1.5]},
    "nine dims": {"shape": [1] * 9},
    "nothing, far away": {"shape": [2**39] * 7 + [0]},
    "more than all": {"shape": [2**40]},
    "just over the limit": {"shape": [(1 << 28) + 1]},
}
LIE = """
import patchbay_worker.sandbox.job.server as s
real = s.encode_body
s.encode_body = lambda body: MANIFEST if 'tensors' in body else real(body)
return inputs
"""


def lies() -> Iterator[tuple[str, str]]:
    honest: dict[str, object] = {"section": "save_ctx", "name": "x", "dtype": "float32", "shape": [4]}
    for name, text in MANIFESTS.items():
        if "{" not in text and not text.startswith("b'"):
            entry = '{"section": "save_ctx", "dtype": "float32", "shape": [4], "name": "' + text + '"}'
            text = '{"tensors": [' + entry + '], "warnings": [], "values": {}}'
        yield name, text if text.startswith("b'") else f"b'{text}'"
    for name, change in ENTRIES.items():
        yield name, f"real({{'tensors': [{honest | change}], 'warnings': [], 'values': {{}}}})"
    yield "a name twice", f"real({{'tensors': [{honest}, {honest}], 'warnings': [], 'values': {{}}}})"
    yield "nothing behind it", f"real({{'tensors': [{honest}], 'warnings': [], 'values': {{}}}})"


def test_a_lying_manifest_ends_the_job(pool_of: PoolOf) -> None:
    pool, wrong = pool_of(Plan()), {}
    with Watch(pool):
        for name, manifest in lies():
            with start(pool, LIE.replace("MANIFEST", manifest)) as job:
                run(job)
                try:
                    wrong[name] = f"it came back: {job.collect()}"
                except PatchbayError as problem:
                    if problem.code not in ("PB_EDIT_CRASHED", "PB_EDIT_FAILED"):
                        wrong[name] = str(problem)
    assert wrong == {}


# The arena by a mapping of its own; a thread writes to all of it, for good.
SCRIBBLE = """
import mmap, os, stat, threading
def arena_fd():
    for n in range(4, 32):
        try:
            if stat.S_ISREG(os.fstat(n).st_mode): return n
        except OSError: pass
fd = arena_fd()
shared = torch.frombuffer(mmap.mmap(fd, os.fstat(fd).st_size), dtype=torch.uint8)
def scribble():
    n = 0
    while True:
        n += 1
        shared[:1 << 20].fill_(n % 256)
        shared[len(shared) // 2 : len(shared) // 2 + (1 << 20)].fill_(n % 256)
threading.Thread(target=scribble, daemon=True).start()
return inputs
"""


def scribbling(pool: SandboxPool, value: torch.Tensor) -> torch.Tensor:
    with start(pool, SCRIBBLE) as job:
        got = run(job, value)
        arena = job._channel.arena
        before = bytes(arena._map[65536 : 65536 + 64])
        copy = got.clone()
        deadline = time.monotonic() + 5
        while bytes(arena._map[65536 : 65536 + 64]) == before:  # the control: it does change under us
            assert time.monotonic() < deadline, "nothing writes"
        assert torch.equal(got.view(torch.uint8), copy.view(torch.uint8)), "what was taken out is ours"
        return got


def test_memory_that_changes_after_the_reply_changes_nothing_taken(pool_of: PoolOf) -> None:
    pool = pool_of(Plan())
    with Watch(pool):
        for _ in range(5):
            scribbling(pool, torch.zeros(64, 512, dtype=torch.int64))
            flags = scribbling(pool, torch.zeros(1 << 18, dtype=torch.bool))
            assert flags.view(torch.uint8).max() <= 1, "no byte of a bool but 0 and 1"


def test_memory_that_changes_while_results_are_read(pool_of: PoolOf) -> None:
    pool = pool_of(Plan())
    body = f"save_ctx.x = [torch.ones(1000)] * 20\n{SCRIBBLE}"
    with Watch(pool):
        for _ in range(5):
            with start(pool, body) as job:
                run(job)
                ended = None
                try:
                    assert all(each.numel() == 1000 for each in job.collect().tensors.values())
                except PatchbayError as problem:
                    ended = problem.code
                assert ended in (None, "PB_EDIT_CRASHED")


DIRT = """
import mmap, os, stat
def arena_fd():
    for n in range(4, 32):
        try:
            if stat.S_ISREG(os.fstat(n).st_mode): return n
        except OSError: pass
fd = arena_fd()
shared = torch.frombuffer(mmap.mmap(fd, os.fstat(fd).st_size), dtype=torch.uint8)
save_ctx.said = int((shared[1 << 20:] != 0).sum())
shared[:] = 0xAA
return inputs
"""


def written_in_common(pid: int) -> set[str]:
    """Inodes behind mappings that a process shares with whoever maps the same, and may write."""
    fields = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {each[4] for each in fields if each[1][1] == "w" and each[1][3] == "s"}


@pytest.mark.skipif(os.getuid() != 0, reason="the maps of a locked process are root's to read")
@pytest.mark.parametrize("level", LEVELS)
def test_no_memory_is_common_to_two_jobs_or_to_the_zygote(pool_of: PoolOf, level: Level) -> None:
    pool = pool_of(Plan(level))
    with start(pool, "return inputs") as one, start(pool, "return inputs") as other:
        zygote = parent_of(one)
        of_one, of_other = (written_in_common(each) for each in (job_of(one.pid), job_of(other.pid)))
        assert of_one, "its arena is there"
        assert of_one & of_other == set()
        assert written_in_common(zygote) == set(), "or each job would write into it"


def job_of(pid: int) -> int:
    """Beside its init, where it has one."""
    inner = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(inner[0]) if inner else pid


def test_an_arena_has_nothing_of_the_job_before(pool_of: PoolOf) -> None:
    pool = pool_of(Plan())
    for _ in range(3):
        with start(pool, DIRT, SandboxLimits(arena_bytes=8 << 20)) as job:
            run(job, torch.zeros(4))
            assert job.collect(modules=False).save_ctx["said"] == 0
