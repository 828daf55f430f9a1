"""Finds the cgroup below which a worker may make its own. Not here: making them (folders.py)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

CONTROLLERS: Final = frozenset(("memory", "pids"))
OFF: Final = "off"
MOUNTS: Final = Path("/proc/self/mountinfo")
OWN: Final = Path("/proc/self/cgroup")


class NoCgroup(Exception):
    """Why jobs have none here, in plain words."""


def find_place(named: str) -> Path:
    """The folder of which this worker may make parts: the one named, else its own cgroup, else the one above."""
    if named == OFF:
        raise NoCgroup("switched off by PATCHBAY_SANDBOX_CGROUP")
    if named:
        _switch_on_if_possible(Path(named))
        return _checked(Path(named))
    own, mount = _own_cgroup()
    _switch_on_if_possible(own)
    try:
        return _checked(own)
    except NoCgroup:
        if own == mount:
            raise
        return _checked(own.parent)


def _checked(place: Path) -> Path:
    there, on = (_words(place / f"cgroup.{name}") for name in ("controllers", "subtree_control"))
    if not there >= CONTROLLERS:
        raise NoCgroup(f"{place} has no cgroup version 2 with memory and pids")
    if not os.access(place, os.W_OK):
        raise NoCgroup(f"{place} may not be written")
    if not on >= CONTROLLERS:
        raise NoCgroup(f"{place} does not pass memory and pids on: it has processes of its own")
    return place


def _own_cgroup() -> tuple[Path, Path]:
    """Of this process, and where that hierarchy is mounted."""
    path = next((line[3:] for line in OWN.read_text(encoding="utf-8").splitlines() if line.startswith("0::")), None)
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        fields, _, tail = line.partition(" - ")
        if path is not None and tail.startswith("cgroup2 "):
            root, point = fields.split()[3:5]
            inner = os.path.relpath(path, root)
            if not inner.startswith(".."):
                return Path(point, inner).absolute() if inner != "." else Path(point), Path(point)
    raise NoCgroup("no cgroup version 2 is mounted")


def switch_on(folder: Path) -> None:
    """Passes the controllers on to what is below."""
    write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(CONTROLLERS)))


def _switch_on_if_possible(folder: Path) -> None:
    with suppress(OSError):
        if not _words(folder / "cgroup.subtree_control") >= CONTROLLERS:
            switch_on(folder)


def _words(file: Path) -> frozenset[str]:
    with suppress(OSError):
        return frozenset(file.read_text(encoding="ascii").split())
    return frozenset()


def write(file: Path, value: int | str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
