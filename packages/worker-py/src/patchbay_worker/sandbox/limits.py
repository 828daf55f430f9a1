"""What one sandbox job may use. Not here: how each limit is enforced (client.py, job/jail.py)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxLimits:
    """Limits of one job; every one is enforced by the worker or by the kernel, none by user code."""

    edit_timeout_s: float = 10.0
    """Wall time of one edit."""
    init_timeout_s: float = 20.0
    """Wall time of building all modules and reading all sources."""
    job_timeout_s: float = 300.0
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
    save_ctx_tensors: int = 256
    save_ctx_bytes: int = 1 << 30
    """Bytes of all tensors that `collect` returns."""
    save_ctx_json_bytes: int = 1 << 20
    """Plain values of save_ctx, as JSON text."""
