"""Activations that the job keeps: full, detached, on the CPU of the root, in call order. Reads of sharded tensors
arrive while the model runs on and are waited for at the end of the run. Not here: files (engine/job/results.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from patchbay_worker.hooks.host_copies import HostCopies
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import HookMesh, PendingGather, ShardDims, start_gather
from patchbay_worker.sharding.probe import dtype_name

Labels = list[dict[str, int] | None]
ACTIVATIONS, GRADIENTS = "activations.safetensors", "gradients.safetensors"


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
    file: str = ACTIVATIONS

    @property
    def key(self) -> str:
        return f"{self.run}/{self.hook}/{self.module}/{self.call}"

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"run": self.run, "hook": self.hook, "module": self.module, "call": self.call}
        if self.tensor is None:
            return {**entry, "missing": self.missing}
        entry |= {"tensor": self.key, "file": self.file}
        entry |= {"shape": list(self.tensor.shape), "dtype": dtype_name(self.tensor.dtype)}
        return entry if self.labels is None else {**entry, "rows": self.labels}


Finish = Callable[[Capture, Tensor], Tensor]
"""What of a gathered tensor is captured; may set the labels."""


@dataclass
class CaptureLog:
    """The captures of one run. Off the root only the pending gathers are kept, so that they end in the same order."""

    mesh: HookMesh
    captures: list[Capture] = field(default_factory=list)
    _pending: list[tuple[Capture, PendingGather, HookReport, Finish]] = field(default_factory=list)
    _copies: HostCopies = field(default_factory=HostCopies)

    def keep(self, capture: Capture, value: Tensor, *, owned: bool) -> None:
        """Root only. `owned` values are nobody else's and need no copy."""
        capture.tensor = self._copies.start(value, owned=owned)
        self.captures.append(capture)

    def gather(
        self, capture: Capture, local: Tensor, dims: ShardDims, report: HookReport, finish: Finish, *, owned: bool
    ) -> None:
        """Starts the way to the root of a tensor that is cut; every rank calls it."""
        started = time.perf_counter()
        # The model may write into its own tensor while the gather is under way.
        pending = start_gather(local.detach() if owned else local.detach().clone(), dims, self.mesh)
        report.took("gather", started)
        self._pending.append((capture, pending, report, finish))
        if self.mesh.is_root:
            self.captures.append(capture)

    def miss(self, capture: Capture) -> None:
        self.captures.append(capture)

    def finish(self) -> None:
        """Waits for all reads, in the order in which every rank started them; captures are whole then."""
        for capture, pending, report, finish in self._pending:
            started = time.perf_counter()
            full = pending.wait()
            if full is not None:
                capture.tensor = self._copies.start(finish(capture, full), owned=True)
                report.gathered_bytes += full.nbytes - pending.local.nbytes
                report.took("gather", started)
        self._pending.clear()
        self._copies.wait()
