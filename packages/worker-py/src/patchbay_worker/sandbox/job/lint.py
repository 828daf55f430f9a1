"""Says before the first edit what the sandbox will refuse: a warning with its line, never a wall. It reads the text
alone, so much escapes it; what holds is the lock-down. Runs in the job, since a source can be made to hurt its parser.

Not here: what a source may not be at all (user_code.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

MOST: Final = 16
NAME_CHARS: Final = 80
NETWORK: Final = "an edit has no network"
FILES: Final = "an edit has no files"
PROCESSES: Final = "an edit has no other processes"
DEVICE: Final = "the sandbox has no GPU; inputs are on the CPU and go back by themselves"
MODULES: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib"), NETWORK
    ),
    **dict.fromkeys(("socketserver", "xmlrpc", "grpc", "redis", "boto3", "wandb", "huggingface_hub"), NETWORK),
    **dict.fromkeys(("subprocess", "multiprocessing", "pty"), PROCESSES),
    **dict.fromkeys(("shutil", "tempfile", "sqlite3", "mmap", "shelve"), FILES),
}
CALLS: Final[dict[str, str]] = {
    **dict.fromkeys(("open", "io.open", "os.open", "os.listdir", "os.remove", "os.mkdir", "os.makedirs"), FILES),
    **dict.fromkeys(("torch.load", "torch.save", "torch.from_file", "np.load", "np.save", "np.fromfile"), FILES),
    **dict.fromkeys(("numpy.load", "numpy.save", "numpy.fromfile"), FILES),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "os.kill", "os.posix_spawn", "os.execv"), PROCESSES),
    **dict.fromkeys(("torch.hub.load", "torch.hub.load_state_dict_from_url"), NETWORK),
}
DEVICES: Final = ("cuda", "mps", "xpu")


def lint(source: str) -> list[tuple[int, str]]:
    """(line, what): in order of lines, each once; nothing for what cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = sorted({found for node in ast.walk(tree) for found in _of(node)})
    return found[:MOST]


def _of(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(alias.name, node.lineno)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from _module(node.module, node.lineno)
    elif isinstance(node, ast.Call):
        name = _dotted(node.func)
        if name in CALLS:
            yield node.lineno, f"{name}(): {CALLS[name]}"
        if name.rpartition(".")[2] == "cuda" or any(_is_device(each) for each in node.args):
            yield node.lineno, DEVICE


def _module(name: str, line: int) -> Iterator[tuple[int, str]]:
    top = name.partition(".")[0]
    if top in MODULES:
        yield line, f"import {name[:NAME_CHARS]}: {MODULES[top]}"


def _is_device(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition(":")[0] in DEVICES


def _dotted(node: ast.expr) -> str:
    """`torch.hub.load` for such an expression; what hangs on something else begins with a dot."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))
