"""Each layer alone: with it something is held, without it the same thing is not. So no layer can go in silence.

The other layers that would stop the same thing are off in both halves.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from patchbay_worker.sandbox.lockdown.landlock import abi
from patchbay_worker.sandbox.lockdown.plan import Layer, Level, Plan

from .conftest import PoolOf, said

PASSWD = 'save_ctx.said = len(open("/etc/passwd").read()) > 0'
TCP = 'save_ctx.said = socket.create_connection(("127.0.0.1", PORT), timeout=2).close()'
CAPABILITIES = """
kept = [n for n in range(41) if ctypes.CDLL(None).prctl(23, n, 0, 0, 0) == 1]
save_ctx.said = len(kept)
"""
DROPPED = """
class Data(ctypes.Structure): _fields_ = [(n, ctypes.c_uint32) for n in ("effective", "permitted", "inheritable")]
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (Data * 2)()
assert ctypes.CDLL(None).capget(ctypes.byref(header), ctypes.byref(data)) == 0
save_ctx.said = sum(each.effective + each.permitted for each in data)
"""
FORBIDDEN = "save_ctx.said = socket.socket().close()"
FILE_SIZE = """
import resource
save_ctx.said = [resource.getrlimit(what)[1] for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
"""
THREADS = """
import threading
wait = threading.Event()
save_ctx.said = 0
try:
    for _ in range(60):
        threading.Thread(target=wait.wait, daemon=True).start()
        save_ctx.said += 1
finally:
    wait.set()
"""


@dataclass(frozen=True)
class Held:
    """With `layer`, `body` leaves `expect`; without, anything else. `off` are layers that would hold it too."""

    layer: Layer
    level: Level
    off: frozenset[Layer]
    body: str
    expect: object


SECCOMP: frozenset[Layer] = frozenset(("seccomp",))
KERNEL_FILES: frozenset[Layer] = frozenset(("seccomp", "landlock"))

CASES: dict[str, Held] = {
    "root: no /etc": Held("root", "isolated", KERNEL_FILES, PASSWD, "FileNotFoundError"),
    "root: no /proc": Held("root", "isolated", KERNEL_FILES, 'save_ctx.said = os.path.exists("/proc")', False),
    "root: no place to write": Held(
        "root",
        "isolated",
        KERNEL_FILES,
        'save_ctx.said = [os.access(p, os.W_OK) for p in ("/tmp", "/dev/shm", "/var/tmp")]',
        [False] * 3,
    ),
    "root: read-only": Held(
        "root", "isolated", KERNEL_FILES, 'save_ctx.said = os.statvfs("/").f_flag & os.ST_RDONLY', os.ST_RDONLY
    ),
    "landlock: files": Held("landlock", "confined", SECCOMP, PASSWD, "PermissionError"),
    "landlock: folders": Held("landlock", "confined", SECCOMP, 'save_ctx.said = os.listdir("/")', "PermissionError"),
    "seccomp: sockets": Held("seccomp", "confined", frozenset(), FORBIDDEN, "PermissionError"),
    "seccomp: files at filtered": Held("seccomp", "filtered", frozenset(), PASSWD, "PermissionError"),
    "namespaces: pid": Held("namespaces", "isolated", KERNEL_FILES, "save_ctx.said = os.getpid()", 2),
    "namespaces: uts": Held("namespaces", "isolated", KERNEL_FILES, "save_ctx.said = os.uname().nodename", "sandbox"),
    "namespaces: net": Held("namespaces", "isolated", KERNEL_FILES, TCP, "OSError"),
    "namespaces: signals": Held(
        "namespaces", "isolated", KERNEL_FILES, "save_ctx.said = os.kill(WORKER, 0)", "ProcessLookupError"
    ),
    "namespaces: user": Held(
        "namespaces", "isolated", KERNEL_FILES | {"uid"}, 'save_ctx.said = os.listdir("/root")', "PermissionError"
    ),
    "privileges: capabilities": Held("privileges", "isolated", KERNEL_FILES, DROPPED, 0),
    "privileges: bounding set": Held("privileges", "isolated", KERNEL_FILES, CAPABILITIES, 0),
    "limits: files": Held("limits", "isolated", KERNEL_FILES, FILE_SIZE, [0, 0]),
    "limits: threads": Held("limits", "isolated", frozenset(), THREADS, "RuntimeError"),
}
LAYERED = [name for name in CASES if name != "namespaces: user"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield cast("int", listener.getsockname()[1])


def outcome(pool_of: PoolOf, held: Held, port: int, *, layer_on: bool) -> object:
    without = held.off if layer_on else held.off | {held.layer}
    if held.layer == "namespaces" and not layer_on:
        without |= {"root"}  # which needs a mount namespace
    body = held.body.replace("PORT", str(port)).replace("WORKER", str(os.getpid()))
    return said(pool_of(Plan(held.level, frozenset(without))), body)


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_holds_by_itself(pool_of: PoolOf, name: str, port: int) -> None:
    held = CASES[name]
    got = outcome(pool_of, held, port, layer_on=True)
    if name == "namespaces: net":
        assert got in ("OSError", "ConnectionRefusedError")
    else:
        assert got == held.expect


@pytest.mark.parametrize("name", LAYERED)
def test_without_the_layer_it_does_not_hold(pool_of: PoolOf, name: str, port: int) -> None:
    held = CASES[name]
    if held.layer == "namespaces" and os.getuid() == 0 and name == "namespaces: signals":
        pytest.skip("an unprivileged uid may not signal root's worker either")
    got = outcome(pool_of, held, port, layer_on=False)
    assert got != held.expect
    if name == "namespaces: net":
        assert got is None, "the connection is there"


@pytest.mark.skipif(os.getuid() != 0, reason="there is no root to leave")
@pytest.mark.parametrize("level", ["isolated", "confined", "filtered"])
def test_root_is_left(pool_of: PoolOf, level: Level) -> None:
    body = "save_ctx.said = [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]"
    uid, effective, gid, groups = cast("tuple[int, int, int, list[int]]", said(pool_of(Plan(level)), body))
    assert uid == effective == gid >= 61184
    assert groups == [] or level == "isolated"
    kept = Plan(level, frozenset(("uid", "seccomp", "namespaces", "root")))
    assert cast("list[int]", said(pool_of(kept), body))[0] == 0, "the layer is what does it"


def test_the_abi_of_landlock_is_used_whole(pool_of: PoolOf, port: int) -> None:
    if abi() < 4:
        pytest.skip(f"this kernel's Landlock has ABI {abi()}: no rules on TCP")
    plan = Plan("confined", SECCOMP)
    assert said(pool_of(plan), TCP.replace("PORT", str(port))) == "PermissionError"
    if abi() >= 6:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("\0patchbay-test")
            listener.listen()
            body = 's = socket.socket(socket.AF_UNIX)\ns.connect("\\0patchbay-test")\nsave_ctx.said = "connected"'
            assert said(pool_of(plan), body) == "PermissionError"
            assert said(pool_of(Plan("confined", KERNEL_FILES)), body) == "connected"
