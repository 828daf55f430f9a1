"""Checkpoints of a training run: taken on the home rank, stored as artifacts, found again by a later attempt.

A checkpoint is whole or is not taken; one that is not taken or cannot be stored is a warning and never ends the
training. Not here: what is in one (the sandbox's job/training.py), which one an attempt goes on from (the orchestrator
reads that from the job's events).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from patchbay_worker.artifacts.write import write_safetensors
from patchbay_worker.engine.config import Checkpoint
from patchbay_worker.engine.job.compile_job import CompiledRun
from patchbay_worker.engine.job.job_spec import Train
from patchbay_worker.engine.run.run_context import JobRun
from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.hooks.editor import HomeSandbox

LOSSES: Final = "losses"


def load_checkpoint(job: JobRun, run: CompiledRun, saved: Checkpoint) -> tuple[dict[str, Tensor], list[float]]:
    """(what the sandbox takes back, the losses so far). Raises what the artifact store answers."""
    name = run.request.name
    artifact = f"sha256:{saved.sha256}"
    try:
        tensors = safetensors.torch.load(job.fetch_artifact(artifact))
    except SafetensorError as failure:
        raise error("PB_ARTIFACT_CORRUPT", artifact=artifact, reason=str(failure)) from failure
    losses = tensors.pop(LOSSES, torch.empty(0))
    if len(losses) != saved.step:
        reason = f"a checkpoint of {name} at step {saved.step} with {len(losses)} losses"
        raise error("PB_ARTIFACT_CORRUPT", artifact=artifact, reason=reason)
    if any(hook.spec.save != "none" for hook in run.hooks):
        job.warnings.append(
            f"{name}: goes on after step {saved.step}, from a checkpoint of an earlier attempt; what its hooks "
            "captured in those steps is not in this result"
        )
    return tensors, [float(value) for value in losses]


def keep_checkpoint(job: JobRun, run: str, train: Train, losses: list[float]) -> None:
    """After a step, on the home rank: stores a checkpoint if one is due and tells of it."""
    step = len(losses)
    if train.checkpoint_every is None or (step % train.checkpoint_every and step != train.steps):
        return
    taken: dict[str, Tensor] = {}
    lacking: list[str] = []

    def take(sandbox: HomeSandbox) -> None:
        tensors, why_not = sandbox.checkpoint()
        taken.update(tensors)
        lacking.extend(why_not)

    job.editor.tell(take)
    if lacking:
        _warn_once(job, f"{run}: no checkpoint could be taken after some steps: {lacking[0]}")
    if lacking or not taken:
        return  # without any the job is poisoned and ends at the next agreement
    try:
        data = _written(taken, losses)
        sha256 = job.store_artifact(data)
    except PatchbayError as failure:
        job.warnings.append(f"{run}: the checkpoint at step {step} could not be stored: {failure}")
        return
    file = f"checkpoints/{run}/{step}.safetensors"
    event = {"type": "artifact", "file": file, "sha256": sha256, "bytes": len(data), "run": run, "step": step}
    job.emit(event)


def _warn_once(job: JobRun, text: str) -> None:
    if text not in job.warnings:
        job.warnings.append(text)


def _written(taken: Mapping[str, Tensor], losses: list[float]) -> bytes:
    return write_safetensors({**taken, LOSSES: torch.tensor(losses, dtype=torch.float64)})
