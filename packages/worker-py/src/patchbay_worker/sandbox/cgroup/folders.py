"""A cgroup for each job: its memory of every kind and its threads.

<place>/patchbay-<chance>/<number>. A worker holds a lock on its folder for as long as it lives; a folder that nobody
holds is what a killed worker has left, and the next one to start takes it away. Not here: rlimits
(lockdown/job_part.py), which hold everywhere and tell the user's line; this also counts what they cannot.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from patchbay_worker.sandbox.cgroup.place import NoCgroup, find_place, switch_on, write

THREADS: Final = 32
SLACK_BYTES: Final = 384 << 20
"""What a job may make its own of its zygote's pages by writing to them, which no rlimit counts, and its page tables."""
PREFIX: Final = "patchbay-"
GONE_S: Final = 5.0


class WorkerCgroup:
    """The folder of one worker, used by one thread. Raises NoCgroup when it may not be made."""

    def __init__(self, named: str = "") -> None:
        place = find_place(named)
        _sweep(place)
        try:
            self._folder, self._held = _own_folder(place)
        except OSError as problem:
            raise NoCgroup(f"{place}: {problem.strerror}") from problem
        self._count = 0
        self._ended: deque[Path] = deque()
        try:
            switch_on(self._folder)
            self._try()
        except OSError as problem:
            self.close()
            raise NoCgroup(f"{place}: no process can be moved into it: {problem.strerror}") from problem

    def job(self, pid: int) -> JobCgroup:
        """A new cgroup with this process in it. Milliseconds: the kernel waits until nobody forks."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        try:
            for name, value in (("pids.max", THREADS), ("memory.swap.max", 0), ("memory.oom.group", 1)):
                with suppress(FileNotFoundError):  # a kernel without swap has no limit of it
                    write(folder / name, value)
            write(folder / "cgroup.procs", pid)
        except BaseException:
            self._ended.append(folder)
            raise
        return JobCgroup(folder, self._ended)

    def sweep(self) -> bool:
        """Removes those whose processes have ended; False while some have not."""
        for _ in range(len(self._ended)):
            folder = self._ended.popleft()
            if not _remove(folder):
                self._ended.append(folder)
        return not self._ended

    def close(self) -> None:
        """Ends what is left in it, and removes it."""
        deadline = time.monotonic() + GONE_S
        while not _remove_all(self._folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.close(self._held)

    def _try(self) -> None:
        with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={}) as one:
            try:
                self.job(one.pid).retire()
            finally:
                one.kill()


class JobCgroup:
    def __init__(self, folder: Path, ended: deque[Path]) -> None:
        self._folder = folder
        self._ended = ended

    def hold_memory(self, most: int) -> None:
        """From here on: private, shared, page tables, whatever it is. Beyond, the kernel ends the job."""
        with suppress(FileNotFoundError):  # its pool has ended, and it with that
            write(self._folder / "memory.max", most + SLACK_BYTES)

    def ran_out(self) -> bool:
        """Whether the kernel has ended it for its memory."""
        with suppress(OSError):
            for line in (self._folder / "memory.events").read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1]) > 0
        return False

    def retire(self) -> None:
        """From any thread, once: it goes with its last process."""
        self._ended.append(self._folder)


def _own_folder(place: Path) -> tuple[Path, int]:
    while True:
        folder = place / f"{PREFIX}{secrets.token_hex(6)}"
        folder.mkdir()
        with suppress(FileNotFoundError):  # swept by another worker before the lock was ours
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_all(folder)
            finally:
                os.close(held)


def _remove_all(folder: Path) -> bool:
    """Ends what is in it; False while something has not ended yet."""
    with suppress(OSError):  # Linux 5.14; before, the parent-death signal has to do
        write(folder / "cgroup.kill", 1)
    inner = [each for each in folder.iterdir() if each.is_dir()]
    return sum(not _remove(each) for each in inner) == 0 and _remove(folder)


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # a process in it has not ended yet
        return False
    return True
