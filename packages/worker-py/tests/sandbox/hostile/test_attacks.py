"""Attacks by the class of thing they are after, at every level that this machine has; each against a whole sandbox.

After every attack the worker, the zygote, a sibling job that was running and the next job must be well.
"""

from __future__ import annotations

import secrets
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.lockdown.plan import Level, Plan

from ..support import run
from .conftest import LEVELS, PoolOf, Watch, said, start

# Each body must end in an exception; what it would have got is left in save_ctx.said.
STOPPED = {
    "read /etc/passwd": 'save_ctx.said = open("/etc/passwd").read()',
    "read /etc/shadow": 'save_ctx.said = open("/etc/shadow").read()',
    "read a file of the worker": 'save_ctx.said = open("CANARY").read()',
    "map a file as a tensor": 'save_ctx.said = torch.from_file("CANARY", size=4, dtype=torch.uint8).tolist()',
    "load a file as a tensor": 'save_ctx.said = torch.load("CANARY", weights_only=False)',
    "fetch from a hub": 'save_ctx.said = torch.hub.load_state_dict_from_url("http://127.0.0.1:PORT/x")',
    "read by numpy": 'save_ctx.said = np.fromfile("CANARY", dtype="u1").tolist()',
    "list the root": 'save_ctx.said = os.listdir("/")',
    "walk to the checkout": 'save_ctx.said = os.listdir("CWD")',
    "write to the root": 'save_ctx.said = os.open("/x", os.O_CREAT | os.O_WRONLY)',
    "write to /tmp": 'save_ctx.said = os.open("/tmp/x", os.O_CREAT | os.O_WRONLY)',
    "write to /dev/shm": 'save_ctx.said = os.open("/dev/shm/x", os.O_CREAT | os.O_WRONLY)',
    "write to its packages": "save_ctx.said = os.open(torch.__file__, os.O_WRONLY)",
    "a folder": 'save_ctx.said = os.mkdir("x")',
    "a temporary file": "import tempfile\nsave_ctx.said = str(tempfile.TemporaryFile())",
    "another root": 'save_ctx.said = os.chdir("/usr")',
    "an extension from a file": 'save_ctx.said = torch.ops.load_library("CANARY")',
    "memory of a process": 'save_ctx.said = open("/proc/WORKER/mem", "rb").read(1)',
    "environment of a process": 'save_ctx.said = open("/proc/WORKER/environ", "rb").read(1)',
    "memory of its parent": 'save_ctx.said = open(f"/proc/{os.getppid()}/mem", "rb").read(1)',
    "TCP to the worker": 'save_ctx.said = socket.create_connection(("127.0.0.1", PORT), timeout=2)',
    "TCP to the internet": 'save_ctx.said = socket.create_connection(("1.1.1.1", 53), timeout=2)',
    "UDP": 'save_ctx.said = socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))',
    "an abstract socket": 'save_ctx.said = socket.socket(socket.AF_UNIX).connect("\\0NAME")',
    "a socket pair": "save_ctx.said = socket.socketpair()",
    "netlink": "save_ctx.said = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a raw packet": "save_ctx.said = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "vsock": "save_ctx.said = socket.socket(40, socket.SOCK_STREAM)",
    "a name": 'save_ctx.said = socket.getaddrinfo("localhost", 80)[0] and socket.socket()',
    "signal the worker": "save_ctx.said = os.kill(WORKER, 0)",
    "signal its parent": "save_ctx.said = os.kill(os.getppid(), 9)",
    "signal everything": "save_ctx.said = os.kill(-1, 9)",
    "signal its group": "save_ctx.said = os.kill(0, 9)",
    "signal by pidfd": "save_ctx.said = os.pidfd_open(WORKER)",
    "fork": "save_ctx.said = os.fork()",
    "forkpty": "save_ctx.said = os.forkpty()",
    "spawn": 'save_ctx.said = os.posix_spawn("/bin/true", ["true"], {})',
    "a shell": 'import subprocess\nsave_ctx.said = subprocess.check_output(["id"])',
    "exec": 'save_ctx.said = os.execv("/bin/true", ["true"])',
    "a process pool": "import multiprocessing as m\nsave_ctx.said = m.get_context('fork').Process().start()",
    "a memory file": 'save_ctx.said = os.memfd_create("x")',
    "a pipe": "save_ctx.said = os.pipe()",
    "shared memory": "import multiprocessing.shared_memory as m\nsave_ctx.said = m.SharedMemory('x', True, 9)",
    "share a tensor": "save_ctx.said = torch.ones(3).share_memory_().tolist()",
    "raise a limit": "import resource\nsave_ctx.said = resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "lower a limit": "import resource\nsave_ctx.said = resource.setrlimit(resource.RLIMIT_CPU, (9, 9))",
    "priority": "save_ctx.said = os.nice(-5)",
    "another user": "save_ctx.said = os.setuid(0)",
    "grow the arena": "save_ctx.said = os.ftruncate(4, 1 << 40)",
    "shrink the arena": "save_ctx.said = os.ftruncate(4, 0)",
    "pass a descriptor": "save_ctx.said = socket.socket(fileno=3).sendmsg([b'x'])",
    "20 GB of bytes": "save_ctx.said = len(bytearray(20 << 30))",
    "20 GB of a tensor": "save_ctx.said = torch.empty(20 << 30, dtype=torch.uint8).numel()",
    "a handle without reading": 'save_ctx.said = os.open("CANARY", os.O_PATH)',
    "its own memory by name": 'save_ctx.said = open("/proc/self/mem", "rb").read(1)',
    "its own maps": 'save_ctx.said = open("/proc/self/maps").read(9)',
    "files of a process": 'save_ctx.said = os.listdir("/proc/WORKER/fd")',
    "the folder of a process": 'save_ctx.said = os.readlink("/proc/WORKER/cwd")',
    "namespaces of a process": 'save_ctx.said = os.open("/proc/WORKER/ns/net", os.O_RDONLY)',
    "CPU time of a process": "import time\nsave_ctx.said = time.clock_gettime(~WORKER << 3 | 2)",
    "a setting of the kernel": 'save_ctx.said = open("/proc/sys/kernel/core_pattern").read()',
    "the kernel's memory": 'save_ctx.said = open("/dev/mem", "rb").read(1)',
    "the terminal": 'save_ctx.said = os.open("/dev/tty", os.O_RDONLY)',
    "a cgroup": 'save_ctx.said = os.listdir("/sys/fs/cgroup")',
    "the engine of containers": 'save_ctx.said = socket.socket(socket.AF_UNIX).connect("/var/run/docker.sock")',
    "a module of the worker's": "import sys\nsys.path.insert(0, 'FOLDER')\nimport of_the_worker\nsave_ctx.said = 1",
    "a library by ctypes": 'save_ctx.said = str(ctypes.CDLL("CANARY"))',
    "an extension that it compiles": "from torch.utils import cpp_extension\n"
    "save_ctx.said = str(cpp_extension.load_inline('x', 'int f() { return 1; }'))",
    "a map by numpy": 'save_ctx.said = np.memmap("CANARY").tolist()',
    "a storage of a file": 'save_ctx.said = torch.UntypedStorage.from_file("CANARY", False, 6).tolist()',
    "a tensor to a file": 'save_ctx.said = torch.save(inputs, "/tmp/x.pt")',
    "a data base": "import sqlite3\nsave_ctx.said = sqlite3.connect('/tmp/x').execute('create table t(a)')",
    "a link": 'save_ctx.said = os.symlink("CANARY", "/tmp/x")',
    "a second name": 'save_ctx.said = os.link(torch.__file__, "/tmp/x")',
    "a pipe with a name": 'save_ctx.said = os.mkfifo("/tmp/x")',
    "another name for its packages": 'save_ctx.said = os.rename(torch.__file__, "/tmp/x")',
    "an end of its packages": "save_ctx.said = os.unlink(torch.__file__)",
    "rights of its packages": "save_ctx.said = os.chmod(torch.__file__, 0o777)",
    "times of its packages": "save_ctx.said = os.utime(torch.__file__)",
    "attributes": "save_ctx.said = os.listxattr(torch.__file__)",
    "a lock": "import fcntl\nsave_ctx.said = fcntl.flock(os.open(torch.__file__, os.O_RDONLY), fcntl.LOCK_EX)",
    "what new files may": "save_ctx.said = os.umask(0)",
    "the owner of its socket": "import fcntl\nsave_ctx.said = fcntl.fcntl(3, fcntl.F_SETOWN, WORKER)",
    "a longer pipe": "import fcntl\nsave_ctx.said = fcntl.fcntl(1, 1031, 1 << 20)",
    "words for the terminal": "import fcntl\nsave_ctx.said = fcntl.ioctl(1, 0x5412, b'x')",
    "bytes from file to file": "save_ctx.said = os.sendfile(1, 0, 0, 1)",
    "bytes between pipes": "save_ctx.said = os.splice(0, 1, 1)",
    "a timer": "import signal\nsave_ctx.said = signal.setitimer(signal.ITIMER_REAL, 100)",
    "a counter of events": "save_ctx.said = os.eventfd(0)",
    "a set of descriptors": "import select\nsave_ctx.said = select.epoll().fileno()",
    "a core of its own": "save_ctx.said = os.sched_setaffinity(0, {0})",
    "real time": "save_ctx.said = os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "groups": "save_ctx.said = os.setgroups([0])",
    "a session": "save_ctx.said = os.setsid()",
    "a gang of torch": "from datetime import timedelta\nsave_ctx.said = torch.distributed.TCPStore("
    '"127.0.0.1", PORT, 2, False, timeout=timedelta(seconds=1))',
    "deep recursion": "def f(): return f()\nsave_ctx.said = f()",
}
HIDDEN = 'save_ctx.said = os.stat("CANARY").st_size'
BLOCKED = {
    "ptrace": "ctypes.CDLL(None).ptrace(16, WORKER, 0, 0)",
    "a user namespace": "ctypes.CDLL(None).unshare(0x10000000)",
    "a mount": "ctypes.CDLL(None).mount(b'x', b'/', b'tmpfs', 0, None)",
    "chroot": "os.chroot('/')",
    "process_vm_readv": "ctypes.CDLL(None).process_vm_readv(WORKER, None, 0, None, 0, 0)",
    "bpf": "ctypes.CDLL(None).syscall(321, 0, 0, 0)",
    "io_uring": "ctypes.CDLL(None).syscall(425, 8, 0)",
    "reboot": "ctypes.CDLL(None).syscall(169, 0, 0, 0, 0)",
    "a key": "ctypes.CDLL(None).syscall(248, b'user', b'x', b'y', 1, -3)",
    "userfaultfd": "ctypes.CDLL(None).syscall(323, 0)",
    "counters of the machine": "ctypes.CDLL(None).syscall(298, 0, 0, -1, -1, 0)",
    "another name of the machine": "import socket; socket.sethostname('x')",
}


class Targets:
    """What attacks are aimed at."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "canary"
        self.file.write_text("canary")
        (folder / "of_the_worker.py").touch()
        folder.chmod(0o755)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.name = f"patchbay-attacks-{secrets.token_hex(6)}"
        self.unix.bind(f"\0{self.name}")
        self.unix.listen()
        self.process = subprocess.Popen(["sleep", "600"])

    def fill(self, body: str) -> str:
        names = {"CANARY": self.file, "FOLDER": self.file.parent, "PORT": self.tcp.getsockname()[1], "NAME": self.name}
        names |= {"WORKER": self.process.pid, "CWD": Path.cwd()}
        for name, value in names.items():
            body = body.replace(name, str(value))
        return body

    def touched(self) -> bool:
        """Whether anything has come to a listener, or the process has been ended."""
        ready, _, _ = select.select([self.tcp, self.unix], [], [], 0)
        return bool(ready) or self.process.poll() is not None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.tcp.close()
        self.unix.close()


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    made = Targets(tmp_path_factory.mktemp("canary"))
    yield made
    made.close()


@pytest.mark.parametrize("level", LEVELS)
def test_attacks_are_stopped(pool_of: PoolOf, targets: Targets, level: Level) -> None:
    pool = pool_of(Plan(level))
    with Watch(pool):
        got = {name: said(pool, targets.fill(body)) for name, body in STOPPED.items()}
    won = {name: value for name, value in got.items() if not (isinstance(value, str) and _is_error(value))}
    assert won == {}
    assert not targets.touched()


def _is_error(name: str) -> bool:
    return name.lower().endswith("error")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", BLOCKED)
def test_calls_that_end_the_job_say_so(pool_of: PoolOf, targets: Targets, level: Level, name: str) -> None:
    pool = pool_of(Plan(level))
    with Watch(pool), start(pool, f"import ctypes, os\n{targets.fill(BLOCKED[name])}\nreturn inputs") as job:
        with pytest.raises(PatchbayError) as caught:
            run(job)
        assert caught.value.code == "PB_EDIT_BLOCKED"
    assert not targets.touched()


@pytest.mark.parametrize("level", ["isolated", "filtered"])
def test_files_cannot_even_be_seen(pool_of: PoolOf, targets: Targets, level: Level) -> None:
    got = said(pool_of(Plan(level)), targets.fill(HIDDEN))
    assert got in ("FileNotFoundError", "PermissionError")


# The same attacks with nothing in their way, as far as they do no harm: what could not fail shows.
HARMLESS = {
    "read /etc/passwd",
    "read a file of the worker",
    "map a file as a tensor",
    "read by numpy",
    "list the root",
    "walk to the checkout",
    "another root",
    "environment of a process",
    "TCP to the worker",
    "UDP",
    "a handle without reading",
    "its own maps",
    "files of a process",
    "the folder of a process",
    "CPU time of a process",
    "a setting of the kernel",
    "a module of the worker's",
    "a map by numpy",
    "a storage of a file",
    "attributes",
    "a lock",
    "what new files may",
    "a timer",
    "a counter of events",
    "a set of descriptors",
    "a core of its own",
    "an abstract socket",
    "a socket pair",
    "netlink",
    "signal the worker",
    "signal by pidfd",
    "spawn",
    "a shell",
    "a memory file",
    "a pipe",
    "lower a limit",
}


def test_without_the_sandbox_the_same_attacks_succeed(pool_of: PoolOf, tmp_path: Path) -> None:
    targets = Targets(tmp_path)
    try:
        pool = pool_of(Plan("trusted"))
        got = {name: said(pool, targets.fill(STOPPED[name])) for name in sorted(HARMLESS)}
        assert {name: value for name, value in got.items() if isinstance(value, str) and _is_error(value)} == {}
        assert targets.touched()
        assert said(pool, targets.fill(HIDDEN)) == len("canary")
    finally:
        targets.close()
