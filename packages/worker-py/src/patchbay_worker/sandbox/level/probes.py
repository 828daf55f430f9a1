"""The self-test: starts jobs in a zygote and attacks, from inside, things that it has laid out for that purpose.

Not here: the attacks themselves (attacks.py), what follows from a failed probe (choose.py).
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.client import EditSource, SandboxJob
from patchbay_worker.sandbox.level.attacks import ENDS_PROCESS, NEVER_ENDS, SOURCE
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.plan import Level
from patchbay_worker.sandbox.zygote_process import ZygoteProcess

LIMITS: Final = SandboxLimits(edit_timeout_s=10, init_timeout_s=10, memory_bytes=256 << 20, arena_bytes=4 << 20)
LOOP_S: Final = 0.2
ONLY_ISOLATED: Final = frozenset(("see the host",))
NOT_CONFINED: Final = frozenset(("see a file",))
"""Landlock does not cover stat(): at `confined` names and sizes of files can be seen."""


@dataclass(frozen=True)
class Probe:
    """One thing that was tried. `ok` means that the sandbox held; `fix` is for the operator."""

    name: str
    ok: bool
    reason: str = ""
    level: Level | None = None
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        known = {"name": self.name, "ok": self.ok, "reason": self.reason, "level": self.level, "fix": self.fix}
        return {key: value for key, value in known.items() if value not in ("", None)}


def self_test(zygote: ZygoteProcess, level: Level) -> list[Probe]:
    """Every probe of a level; about half a second. Raises nothing: a probe that cannot be made has failed."""
    try:
        with _targets() as (targets, victim):
            probes = _soft(zygote, level, targets)
            alive = victim.poll() is None
        probes.append(Probe("a canary process lives", alive, "" if alive else "it was ended", level))
        return [*probes, _ends_process(zygote, level), _endless(zygote, level)]
    except Exception as problem:
        return [Probe("self-test", False, f"{type(problem).__name__}: {problem}", level)]


def _soft(zygote: ZygoteProcess, level: Level, targets: dict[str, Any]) -> list[Probe]:
    source = SOURCE.replace("TARGETS", repr(json.dumps(targets)))
    with _job(zygote, source) as job:
        _run(job)
        said = job.collect(modules=False).save_ctx["said"]
    skipped = (NOT_CONFINED if level == "confined" else frozenset()) | (
        frozenset() if level == "isolated" else ONLY_ISOLATED
    )
    return [
        Probe(name, not told["worked"], str(told["said"]) if told["worked"] else "", level)
        for name, told in said.items()
        if name not in skipped
    ]


def _ends_process(zygote: ZygoteProcess, level: Level) -> Probe:
    name = "end a process for a forbidden call"
    with _job(zygote, ENDS_PROCESS) as job:
        try:
            _run(job)
        except PatchbayError as problem:
            held = problem.code == "PB_EDIT_BLOCKED"
            return Probe(name, held, "" if held else problem.message, level)
    return Probe(name, False, "unshare() was not stopped", level)


def _endless(zygote: ZygoteProcess, level: Level) -> Probe:
    name = "end an endless loop"
    with _job(zygote, NEVER_ENDS) as job:
        try:
            _run(job, LOOP_S)
        except PatchbayError as problem:
            held = problem.code == "PB_EDIT_TIMEOUT" and job.ended()
            return Probe(name, held, "" if held else problem.message, level)
    return Probe(name, False, "it came back", level)


def _job(zygote: ZygoteProcess, source: str) -> SandboxJob:
    job = SandboxJob(zygote.fork(), LIMITS)
    job.init(seed=0, sources=[EditSource("self-test", source)])
    return job


def _run(job: SandboxJob, timeout_s: float | None = None) -> None:
    facts = {"batch": {}, "shape": [1]}
    job.edit(source=0, tensor=torch.zeros(1), current_module=facts, timeout_s=timeout_s)


@contextmanager
def _targets() -> Iterator[tuple[dict[str, Any], subprocess.Popen[bytes]]]:
    """A file that all may read, listeners, and a process: what an attack must not reach."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="patchbay-canary-"))
        Path(folder).chmod(0o777)  # so that only the sandbox stands between
        file = Path(folder, "canary")
        file.write_text("canary", encoding="ascii")
        file.chmod(0o644)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        name = f"patchbay-canary-{secrets.token_hex(8)}"
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"\0{name}")
        unix.listen()
        victim = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={})
        stack.callback(victim.wait)
        stack.callback(victim.send_signal, signal.SIGKILL)
        yield (
            {
                "file": str(file),
                "folder": folder,
                "port": tcp.getsockname()[1],
                "name": name,
                "pid": victim.pid,
                "secrets": ["PATCHBAY_TOKEN", "PATCHBAY_GATEWAY_TOKEN", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"],
            },
            victim,
        )
