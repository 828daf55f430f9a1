"""Captures and reports of later stages, on the home rank once a run is over. Not here: files (job/results.py)."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from patchbay_worker.engine.run.run_output import RunOutput
from patchbay_worker.engine.world import World
from patchbay_worker.hooks.capture import Capture
from patchbay_worker.sharding.probe import dtype_name


def bring_home(world: World, output: RunOutput) -> None:
    """Every rank calls it; afterwards the home rank has what each stage's root had, in the order of the stages."""
    for stage in range(1, world.mesh.pp):
        source = world.mesh.rank(stage)
        own = world.rank == source
        told = json.loads(world.share_bytes(_told(output) if own else None, source))
        captures = output.captures if own else [_capture(each) for each in told["captures"]]
        for capture, facts in zip(captures, told["captures"], strict=True):
            if facts["shape"] is not None:
                like = torch.empty(facts["shape"], dtype=getattr(torch, facts["dtype"]), device="meta")
                arrived = world.send_home(capture.tensor, source, like)
                if world.is_root and arrived is not None:
                    capture.tensor = arrived.cpu()
        if world.is_root:
            output.captures += captures
            output.reports += told["reports"]


def _told(output: RunOutput) -> bytes:
    captures = [{**_plain(capture), **_size(capture.tensor)} for capture in output.captures]
    return json.dumps({"captures": captures, "reports": output.reports}).encode()


def _plain(capture: Capture) -> dict[str, Any]:
    return {key: value for key, value in vars(capture).items() if key != "tensor"}


def _size(tensor: Tensor | None) -> dict[str, Any]:
    if tensor is None:
        return {"shape": None, "dtype": None}
    return {"shape": list(tensor.shape), "dtype": dtype_name(tensor.dtype)}


def _capture(facts: dict[str, Any]) -> Capture:
    return Capture(**{key: value for key, value in facts.items() if key not in ("shape", "dtype")})
