"""docs/security.md says no more than is tested: every row of its table of attacks has cases, every limit its names."""

from __future__ import annotations

import re
from pathlib import Path

from patchbay_worker.sandbox.limits import FIELDS, SandboxLimits
from patchbay_worker.sandbox.settings import SandboxSettings

from . import test_attacks, test_ends, test_forged, test_layers, test_objects, test_syscalls

PAGE = (Path(__file__).parents[5] / "docs/security.md").read_text(encoding="utf-8")

# Row of the table -> cases of attack that it stands on.
CASES: dict[str, list[str]] = {
    "network, unix sockets": ["TCP to the worker", "UDP", "an abstract socket", "seccomp: sockets", "namespaces: net"],
    "files": ["read /etc/passwd", "map a file as a tensor", "landlock: files", "root: no /etc"],
    "writing": ["write to /tmp", "write to its packages", "root: read-only", "limits: files"],
    "other processes": ["memory of a process", "signal the worker", "ptrace", "namespaces: signals"],
    "new processes, programs": ["fork", "exec", "a process pool", "clone"],
    "clocks of other processes, handles on files (`O_PATH`), locks with priorities": [
        "CPU time of a process",
        "a handle without reading",
        "futex",
    ],
    "many threads": ["limits: threads", "test_threads_are_few_at_every_level"],
    "the environment": ["environment of a process"],
    "memory": ["20 GB of bytes", "memory in common"],
    "huge pages, memory shared with others (KSM)": ["huge pages", "mmap", "madvise"],
    "time": ["it swallows every exception", "it takes every signal", "it stops itself"],
    "CPU of the worker": [],  # measured, not attacked: bench
    "the worker's memory": ["grow the arena", "test_memory_that_changes_after_the_reply_changes_nothing_taken"],
    "forged or early replies": ["a nonce of its own", "one reply, twice"],
    "replies that are none, a closed connection": ["an empty packet", "it closes the connection and goes on"],
    "NaN where a token is drawn": [],  # tests/engine/test_generate.py
}
KNOWN: set[str] = {
    *test_attacks.STOPPED,
    *test_attacks.BLOCKED,
    *test_ends.ENDS,
    *test_forged.PACKETS,
    *test_layers.CASES,
    *test_objects.RETURNED,
    *test_syscalls.CHECKED,
    *(name for module in (test_ends, test_forged) for name in vars(module) if name.startswith("test_")),
}


def rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_has_cases_and_every_case_is_there() -> None:
    assert [row[0] for row in rows("What each layer stops")] == list(CASES)
    assert [name for names in CASES.values() for name in names if name not in KNOWN] == []


def shown(default: float, key: str) -> str:
    """As the documentation writes it."""
    if key.endswith("Ms"):
        return f"{default:g} s"
    if key.endswith("Bytes"):
        unit, size = next((u, s) for u, s in (("GiB", 2**30), ("KiB", 2**10)) if default >= s)
        return f"{default // size} {unit}"
    return f"{default:,}".replace(",", " ")


def test_every_limit_is_listed_with_its_default_and_the_names_that_work() -> None:
    listed = {row[0].strip("`"): row[1:3] for row in rows("Limits of a job")}
    assert list(listed) == list(FIELDS)
    for key, (default, names) in listed.items():
        assert default == shown(getattr(SandboxLimits, FIELDS[key]), key)
        variable = re.search(r"PATCHBAY_\w+", names)
        assert variable is not None
        assert SandboxSettings.from_environment({variable[0]: "5"}).maxima == {key: 5}
        assert f"`max{key[0].upper()}{key[1:]}`" in names
