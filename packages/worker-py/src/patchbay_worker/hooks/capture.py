"""Activations that the job keeps: full, detached, on the CPU of the root, in call order. Reads of sharded tensors
arrive while the model runs on and are waited for at the end of the run. Not here: files (engine/job/results.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import HookGroup, PendingGather, start_gather
from patchbay_worker.sharding.probe import dtype_name

Labels = list[dict[str, int] | None]


@dataclass
class Capture:
    """One captured tensor, or the typed reason why there is none."""

    run: str
    hook: str
    module: str
    call: int | None
    labels: Labels | None = None
    tensor: Tensor | None = None
    missing: str | None = None

    @property
    def key(self) -> str:
        return f"{self.run}/{self.hook}/{self.module}/{self.call}"

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"run": self.run, "hook": self.hook, "module": self.module, "call": self.call}
        if self.tensor is None:
            return {**entry, "missing": self.missing}
        entry |= {"tensor": self.key, "shape": list(self.tensor.shape), "dtype": dtype_name(self.tensor.dtype)}
        return entry if self.labels is None else {**entry, "rows": self.labels}


@dataclass
class CaptureLog:
    """The captures of one run. Off the root only the pending gathers are kept, so that they end in the same order."""

    group: HookGroup
    captures: list[Capture] = field(default_factory=list)
    _pending: list[tuple[Capture, PendingGather, HookReport]] = field(default_factory=list)

    def keep(self, capture: Capture, value: Tensor, *, owned: bool) -> None:
        """Root only. `owned` values are nobody else's and need no copy."""
        value = value.detach()
        on_host = value.cpu()
        capture.tensor = on_host.clone() if on_host is value and not owned else on_host
        self.captures.append(capture)

    def gather(self, capture: Capture, local: Tensor, dim: int, report: HookReport, *, owned: bool) -> None:
        """Starts the way to the root of a sharded tensor; every rank calls it."""
        started = time.perf_counter()
        # The model may write into its own tensor while the gather is under way.
        pending = start_gather(local.detach() if owned else local.detach().clone(), dim, self.group)
        report.gather_ms += (time.perf_counter() - started) * 1e3
        self._pending.append((capture, pending, report))
        if self.group.is_root:
            self.captures.append(capture)

    def miss(self, capture: Capture) -> None:
        self.captures.append(capture)

    def finish(self) -> None:
        """Waits for all reads, in the order in which every rank started them."""
        for capture, pending, report in self._pending:
            started = time.perf_counter()
            full = pending.wait()
            if full is not None:
                capture.tensor = full.cpu()
                report.gathered_bytes += full.nbytes * (self.group.size - 1) // self.group.size
                report.gather_ms += (time.perf_counter() - started) * 1e3
        self._pending.clear()
