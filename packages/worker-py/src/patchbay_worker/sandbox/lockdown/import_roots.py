"""The folders that a job may read: what Python and the libraries that are loaded import from, and nothing else."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

PACKAGE: Final = str(Path(__file__).resolve().parents[2])
_TOO_WIDE: Final = frozenset(("/", "/usr", "/home", "/root", "/etc", "/var", "/tmp", "/proc", "/sys", "/dev", "/opt"))


def import_roots() -> list[str]:
    """Real paths of folders, none inside of another: the standard library, site-packages, shared libraries."""
    found = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages", "lib-dynload"))]
    found += [PACKAGE, *_library_folders()]
    folders = sorted({os.path.realpath(folder) for folder in found if os.path.isdir(folder)})
    wanted = [folder for folder in folders if folder not in _TOO_WIDE]
    return [folder for folder in wanted if not any(folder.startswith(f"{other}/") for other in wanted)]


def aliases(roots: list[str]) -> list[str]:
    """Entries of sys.path that lead to one of the folders through a link: Python asks for them by that name."""
    real = {entry: os.path.realpath(entry) for entry in sys.path if os.path.isdir(entry)}
    return [entry for entry, target in real.items() if target != entry and target in roots]


def _library_folders() -> set[str]:
    """Of every file that is mapped to be executed."""
    folders = set()
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/") and ".so" in fields[5]:
                folders.add(os.path.dirname(fields[5]))
    return folders
