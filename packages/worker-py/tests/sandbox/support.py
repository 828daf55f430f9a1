"""Short forms for sandbox tests."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.client import SandboxJob

FACTS: dict[str, Any] = {
    "name": "model.layers.0.mlp",
    "class_name": "Linear",
    "training": False,
    "run": "clean",
    "call": 0,
    "step": 0,
    "shape": [1, 3, 4],
    "batch": {"lengths": [3], "token_ids": [[5, 9, 31]], "positions": [[0, 1, 2]], "padding": "right"},
}


def edit(body: str) -> str:
    """A source whose edit has this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"def edit(current_module, inputs, save_ctx, modules):\n{lines}\n"


def run(job: SandboxJob, tensor: Tensor | None = None, source: int = 0, timeout_s: float | None = None) -> Tensor:
    value = torch.arange(12.0).view(1, 3, 4) if tensor is None else tensor
    return job.edit(source=source, tensor=value, current_module=FACTS, timeout_s=timeout_s)


def refused(code: str, action: Callable[[], object]) -> PatchbayError:
    """The error that `action` raises, which must have this code."""
    with pytest.raises(PatchbayError) as caught:
        action()
    assert caught.value.code == code, caught.value
    return caught.value


def wait_for_end(pid: int, timeout_s: float = 10.0) -> None:
    """Returns when the process has ended; fails when it has not in time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(timeout_s * 1000))
    os.close(pidfd)
    assert ended, f"process {pid} still runs"
