"""What one run leaves on the root. Not here: its form in a result (engine/job/results.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.hooks.capture import Capture


@dataclass
class RunOutput:
    """What a run leaves on the root. `next_logits` are [B, V]: those that follow the last real token of each row."""

    run: CompiledRun
    captures: list[Capture] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    next_logits: Tensor | None = None
    all_logits: Tensor | None = None
    generated: list[list[int]] | None = None
    stop_reasons: list[str] | None = None
    loss: float | None = None
    losses: list[float] | None = None
    forward_ms: float = 0.0
