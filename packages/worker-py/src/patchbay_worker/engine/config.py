"""What an engine is started with, what a job brings along and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from patchbay_worker.errors import error
from patchbay_worker.sharding.mesh import Mesh
from patchbay_worker.spans import SpanLog

if TYPE_CHECKING:
    from torch import Tensor  # the shell around the engine reads this file without torch


@dataclass(frozen=True)
class EngineConfig:
    """One rank of one gang. `model_path` is a directory or a hub name; both load by the same code."""

    model_path: str
    name: str
    tp: int
    rank: int
    world_size: int
    master_addr: str
    master_port: int
    pp: int = 1
    dp: int = 1
    fsdp: bool = False
    experts: bool = False
    dtype: str = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    sandbox_pool: int = 2

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.pp, self.dp, self.tp, self.fsdp, self.experts)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training run may go on: the artifact that was stored after so many steps."""

    sha256: str
    step: int


def no_store(_data: bytes) -> str:
    """Where nothing keeps artifacts; the caller says what that means for it."""
    raise error("PB_ORCHESTRATOR_UNAVAILABLE", url="", reason="this job has no artifact store")


@dataclass(frozen=True)
class JobContext:
    """`document` is valid by the schema. `fetch_artifact` takes a digest (sha256:...) and gives its bytes,
    `store_artifact` takes bytes and gives their hex digest. `resume` has the training runs that another attempt began.
    """

    job_id: str
    attempt: int
    document: dict[str, Any]
    deadline_unix_ms: int | None
    fetch_artifact: Callable[[str], bytes]
    store_artifact: Callable[[bytes], str] = no_store
    resume: Mapping[str, Checkpoint] = field(default_factory=dict)
    spans: SpanLog = field(default_factory=lambda: SpanLog(wanted=False))


@dataclass(frozen=True)
class JobOutput:
    """`files` are tensors by file name and key; `result` is the gang's part of the result."""

    result: dict[str, Any]
    files: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    logs: str = ""
