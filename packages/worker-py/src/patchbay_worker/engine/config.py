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
    """One rank of one gang. `pp * dp * tp` is `world_size`; ranks are counted with tp fastest.

    Attributes:
        model_path: a directory or a hub name; both load by the same code.
        name: of the model in results and errors.
        tp: ranks that share every layer.
        rank: of this process, from 0.
        world_size: all ranks.
        master_addr: where rank 0 listens for the others.
        master_port: the port there; 0 with one rank only.
        pp: pipeline stages.
        dp: copies that divide the rows of a batch.
        fsdp: whether the copies of dp share one set of weights.
        experts: whether tp divides the experts only.
        dtype: of weights and activations: `float32`, `bfloat16`, `float16`.
        device: `cpu` (gloo) or `cuda` (NCCL; the device by `LOCAL_RANK`).
        sandbox_pool: processes that wait for edits on rank 0.
    """

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
        """Its axes together.

        Returns:
            The mesh.
        """
        return Mesh(self.pp, self.dp, self.tp, self.fsdp, self.experts)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training run may go on: the artifact that was stored after so many steps.

    Attributes:
        sha256: digest of the artifact, 64 hex digits.
        step: optimiser steps that it holds.
    """

    sha256: str
    step: int


def no_store(_data: bytes) -> str:
    """Where nothing keeps artifacts; the caller says what that means for it."""
    raise error("PB_ORCHESTRATOR_UNAVAILABLE", url="", reason="this job has no artifact store")


@dataclass(frozen=True)
class JobContext:
    """A job as a rank gets it.

    Attributes:
        job_id: for `cancel`.
        attempt: counts the starts of this job, from 1.
        document: valid by the schema and with its defaults: what `parse_document` gives.
        deadline_unix_ms: when the job has failed with PB_JOB_TIMEOUT; None for no limit but the document's.
        fetch_artifact: takes a digest (`sha256:...`) and gives its bytes.
        store_artifact: takes bytes and gives their hex digest; without one, checkpoints fail.
        resume: training runs that another attempt began, by name.
        spans: what the rank did when, kept only for a job that is traced.
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
    """What a job gives back.

    Attributes:
        result: `result.json` without what the queue knows (job id, state, times of queue and transfer).
        files: tensors by file name (`activations.safetensors`) and key.
        logs: what the edits printed.
    """

    result: dict[str, Any]
    files: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    logs: str = ""
