"""What the self-test tries from inside of a job, as the source of an editing function. Each attack says how it went.

Runs where user code runs, with nothing imported that the zygote has not. Not here: what should have happened
(probes.py).
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = """
import ctypes, json, mmap, os, resource, socket, sys

def attempt(attack):
    try:
        return {"worked": True, "said": repr(attack())[:200]}
    except BaseException as problem:
        return {"worked": False, "said": f"{type(problem).__name__}: {problem}"[:200]}

def read(path):
    with open(path) as file:
        return file.read()

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)

def more_rights():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft - 1))

def writable_file():
    descriptor = os.open(os.path.join(targets["folder"], "written"), os.O_WRONLY | os.O_CREAT)
    os.close(descriptor)

def secret():
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    found = [name for name in targets["secrets"] if name in os.environ or libc.getenv(name.encode())]
    if not found:
        raise KeyError("no secret in the environment")
    return found

def namespaces():
    if os.getpid() > 2 or os.uname().nodename != "sandbox" or os.path.exists("/proc") or os.path.exists("/etc"):
        return "it sees the host"
    raise OSError("only itself")

def edit(current_module, inputs, save_ctx, modules):
    global targets
    targets = json.loads(TARGETS)
    attacks = {
        "read a file": lambda: read(targets["file"]),
        "see a file": lambda: os.stat(targets["file"]),
        "write a file": writable_file,
        "open a socket": lambda: socket.socket().close(),
        "connect by TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", targets["port"])),
        "connect by unix socket": lambda: connect(socket.AF_UNIX, "\\0" + targets["name"]),
        "signal a process": lambda: os.kill(targets["pid"], 15),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "fork": fork,
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "take 20 GB": lambda: len(bytearray(20 << 30)),
        "make a memory file": lambda: os.close(os.memfd_create("x")),
        "change its limits": more_rights,
        "find a secret": secret,
        "see the host": namespaces,
    }
    save_ctx.said = {name: attempt(attack) for name, attack in attacks.items()}
    return inputs
"""

ENDS_PROCESS: Final = """
import ctypes
def edit(current_module, inputs, save_ctx, modules):
    ctypes.CDLL(None).unshare(0x10000000)
    return inputs
"""
"""A call without honest use, which must end the process."""

NEVER_ENDS: Final = """
def edit(current_module, inputs, save_ctx, modules):
    while True:
        try:
            while True: pass
        except BaseException: pass
"""
