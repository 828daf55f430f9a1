"""What one sandbox job may use. Not here: how each limit is enforced (client.py, job/jail.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from patchbay_worker.errors import error


@dataclass(frozen=True)
class SandboxLimits:
    """Limits of one job; every one is enforced by the worker or by the kernel, none by user code."""

    edit_timeout_s: float = 10.0
    """Wall time of one edit."""
    init_timeout_s: float = 20.0
    """Wall time of building all modules and reading all sources."""
    job_timeout_s: float = 60.0
    """Wall time of all calls together; also the CPU time that the process may use."""
    memory_bytes: int = 2 << 30
    """Address space and data beyond what the process has when the job starts."""
    arena_bytes: int = 192 << 20
    """Shared memory for tensors, half of it each way. Takes memory only where it is touched."""
    max_arena_bytes: int = 1 << 30
    """How far `ensure_capacity` may grow the arena."""
    log_bytes: int = 65536
    """What the edits print; the rest is dropped."""
    source_bytes: int = 256 << 10
    """Text of one source."""
    edit_calls: int = 20_000
    """Edits in one job."""
    live_graphs: int = 256
    """Calls whose graphs the process keeps at one time."""
    save_ctx_tensors: int = 256
    save_ctx_bytes: int = 1 << 30
    """Bytes of all tensors that `collect` returns."""
    save_ctx_json_bytes: int = 1 << 20
    """Plain values of save_ctx, as JSON text."""


MILLISECONDS: Final = "Ms"
FIELDS: Final[dict[str, str]] = {
    "timeoutMs": "job_timeout_s",
    "initTimeoutMs": "init_timeout_s",
    "editTimeoutMs": "edit_timeout_s",
    "editMemoryBytes": "memory_bytes",
    "editCalls": "edit_calls",
    "liveGraphs": "live_graphs",
    "logBytes": "log_bytes",
    "saveCtxBytes": "save_ctx_bytes",
    "saveCtxTensors": "save_ctx_tensors",
}
"""Key of a document's `limits` -> field."""


def limits_of(wanted: Mapping[str, int], maxima: Mapping[str, int]) -> SandboxLimits:
    """What a document asks for, within what the operator allows; a default that is above it becomes it.

    Raises PB_LIMIT_EXCEEDED for a document that asks for more.
    """
    if not wanted and not maxima:
        return SandboxLimits()
    given: dict[str, float] = {}
    for key, field in FIELDS.items():
        value, most = wanted.get(key), maxima.get(key)
        if value is None:
            default = _in_document(getattr(SandboxLimits, field), key)
            value = default if most is None else min(default, most)
        elif most is not None and value > most:
            hint = f"The operator of this deployment allows {most} at most."
            raise error("PB_LIMIT_EXCEEDED", path=f"limits.{key}", hint=hint, what=key, limit=most, actual=value)
        given[field] = value / 1e3 if key.endswith(MILLISECONDS) else value
    return SandboxLimits(**given)  # type: ignore[arg-type] # whole numbers stay whole


def _in_document(value: float, key: str) -> int:
    return round(value * 1e3 if key.endswith(MILLISECONDS) else value)
