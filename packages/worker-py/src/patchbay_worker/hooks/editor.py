"""Runs the job's edits on the root, each exactly once. It never raises: a failed edit gives back its input and poisons
the job, so that the root completes the collective that other ranks wait in; later edits are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.spec import CompiledHook


class EditSandbox(Protocol):
    """What is used of sandbox.client.SandboxJob."""

    def edit(
        self, *, source: int, tensor: Tensor, current_module: Mapping[str, Any], timeout_s: float | None = None
    ) -> Tensor: ...


class Editor:
    """One per job. `error` is the first failure: the job ends with it at the next agreement point."""

    def __init__(self, sandbox: EditSandbox | None, deadline_s: float | None) -> None:
        self._sandbox = sandbox
        self._deadline_s = deadline_s  # unix time
        self.error: PatchbayError | None = None

    def poison(self, reason: PatchbayError) -> None:
        self.error = self.error or reason

    def run(self, hook: CompiledHook, value: Tensor, call: Mapping[str, Any], report: HookReport) -> Tensor:
        """The edited tensor, on the device of `value`; `value` itself when there is nothing to use."""
        if self.error is not None or self._sandbox is None or hook.spec.source is None:
            return value
        started = time.perf_counter()
        try:
            edited = self._sandbox.edit(
                source=hook.spec.source, tensor=value.detach(), current_module=call, timeout_s=self._remaining()
            )
            _check_token_ids(hook, edited)
        except PatchbayError as failure:
            self.poison(failure)
            return value
        except Exception as failure:  # an internal fault must not leave other ranks waiting
            self.poison(error("PB_SANDBOX_FAILED", reason=f"{type(failure).__name__}: {failure}"))
            return value
        finally:
            report.edit_ms += (time.perf_counter() - started) * 1e3
        return edited.to(value.device)

    def _remaining(self) -> float | None:
        """Seconds to the job's deadline; the sandbox keeps the edit's own limit besides."""
        return None if self._deadline_s is None else max(self._deadline_s - time.time(), 0.001)


def _check_token_ids(hook: CompiledHook, edited: Tensor) -> None:
    """Ids outside of an embedding would raise on every rank in the middle of the model."""
    module = hook.module
    if not isinstance(module, nn.Embedding) or hook.spec.kind != "forward_pre" or edited.is_floating_point():
        return
    lowest, highest = int(edited.min()), int(edited.max())
    if lowest < 0 or highest >= module.num_embeddings:
        token = lowest if lowest < 0 else highest
        raise error("PB_TOKEN_OUT_OF_RANGE", path=hook.spec.path, token=token, size=module.num_embeddings)
