"""The gang's part of a result and its files, from what the runs left on the root. Not here: bytes (artifacts/)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchbay_worker.engine.config import JobOutput
from patchbay_worker.engine.job.job_spec import ParameterRequest
from patchbay_worker.engine.job.tokens import TokenTexts
from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.hooks.capture import ACTIVATIONS, GRADIENTS, Capture
from patchbay_worker.hooks.spec import EDITING
from patchbay_worker.sandbox.collect import SandboxResult

OUTPUTS = "outputs.safetensors"


@dataclass(frozen=True)
class JobParts:
    """Everything that a job left on the root. `sandbox` is None when no edit and no module was asked for."""

    runs: list[RunOutput]
    parameters: Mapping[ParameterRequest, Tensor]
    sandbox: SandboxResult | None
    timings: dict[str, float]
    warnings: list[str]


def assemble(parts: JobParts, fingerprint: dict[str, Any], texts: TokenTexts) -> JobOutput:
    outputs: dict[str, Tensor] = {}
    captures = [capture for run in parts.runs for capture in run.captures]
    sandbox = parts.sandbox
    runs = {run.run.request.name: _run_result(run, texts, outputs) for run in parts.runs}
    from_sandbox = sandbox.warnings if sandbox is not None else []
    result = {
        "runs": runs,
        "activations": [capture.to_json() for capture in captures],
        "saveCtx": sandbox.save_ctx if sandbox is not None else {},
        "parameters": [{"name": each.name, "tensor": each.key} for each in parts.parameters],
        "hooks": [report for run in parts.runs for report in run.reports],
        "timings": {name: round(value, 3) for name, value in parts.timings.items()},
        "fingerprint": fingerprint,
        "warnings": [*parts.warnings, *_idle(parts), *_not_finite(parts), *_without_top(runs), *from_sandbox],
    }
    files = {
        OUTPUTS: outputs,
        ACTIVATIONS: _captured(captures, ACTIVATIONS),
        GRADIENTS: _captured(captures, GRADIENTS),
        "save_ctx.safetensors": dict(sandbox.tensors) if sandbox is not None else {},
        "modules.safetensors": dict(sandbox.modules) if sandbox is not None else {},
        "parameters.safetensors": {each.key: value for each, value in parts.parameters.items()},
    }
    return JobOutput(
        result=result,
        files={name: tensors for name, tensors in files.items() if tensors},
        logs=sandbox.logs if sandbox is not None else "",
    )


def _idle(parts: JobParts) -> list[str]:
    """An edit that no call came to has changed nothing, and nothing else in the result would say so."""
    return [
        f"{report['hook']} at {report['module']} in run {report['run']}: the edit was never called"
        for run in parts.runs
        for report in run.reports
        if report["calls"] == 0 and report["route"] in EDITING
    ]


def _not_finite(parts: JobParts) -> list[str]:
    """NaN and infinity are an edit's right: the run goes on with them, and the result says where they began."""
    return [
        f"{report['hook']} at {report['module']} in run {report['run']}: the edit made {report['notFinite']} values "
        "NaN or infinite"
        for run in parts.runs
        for report in run.reports
        if report["notFinite"]
    ]


def _without_top(runs: Mapping[str, dict[str, Any]]) -> list[str]:
    return [
        f"row {row} of run {name} has no most probable tokens: its logits are NaN or infinite"
        for name, run in runs.items()
        for row, top in enumerate(run.get("topK", []))
        if not top
    ]


def _captured(captures: list[Capture], file: str) -> dict[str, Tensor]:
    return {each.key: each.tensor for each in captures if each.tensor is not None and each.file == file}


def _run_result(output: RunOutput, texts: TokenTexts, tensors: dict[str, Tensor]) -> dict[str, Any]:
    request, batch = output.run.request, output.run.batch
    result: dict[str, Any] = {"tokenIds": batch.tokens}
    if texts.known:
        result["tokens"] = [texts.texts(row) for row in batch.tokens]
    logits = {"last": output.next_logits, "all": output.all_logits, "none": None}[request.logits]
    if logits is not None:
        key = f"{request.name}/logits"
        tensors[key] = logits.cpu()
        result["logits"] = {"tensor": key, "file": OUTPUTS}
    if request.top_k and output.next_logits is not None:
        result["topK"] = _top(output.next_logits, request.top_k, texts)
    if output.loss is not None:
        result["loss"] = output.loss
    if output.losses is not None:
        result["losses"] = output.losses
    if output.generated is not None:
        result["generatedTokenIds"] = output.generated
        result["stopReasons"] = output.stop_reasons
        if texts.known:
            result["text"] = [texts.join(row) for row in output.generated]
    return result


def _top(logits: Tensor, count: int, texts: TokenTexts) -> list[list[dict[str, Any]]]:
    """Per row, the most probable first, without those that cannot be (-infinity); none at all for a row whose highest
    logit is no number, since then no token has a probability.
    """
    values = logits.float().cpu()
    probabilities = torch.softmax(values, dim=-1)
    top, tokens = values.topk(min(count, values.shape[-1]), dim=-1)
    chosen = probabilities.gather(-1, tokens)
    return [
        [
            {"tokenId": token, "token": texts.text(token), "logit": logit, "probability": probability}
            for token, logit, probability in zip(*columns, strict=True)
            if math.isfinite(logit) and math.isfinite(probability)
        ]
        for columns in zip(tokens.tolist(), top.tolist(), chosen.tolist(), strict=True)
    ]
