"""Runs many jobs of every mode on one gang and prints what its ranks and the sandbox pool hold on the way, as JSON.

ranks/memory.ts starts it under torchrun and judges.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any, Final

import psutil
import torch
import torch.distributed as dist
from on_ranks import parser, start_engine
from torch import Tensor

from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import JobContext
from patchbay_worker.engine.engine import Engine
from patchbay_worker.errors import PatchbayError

POINTS: Final = 20  # at which it looks
SETTLE_S: Final = 10.0
INPUTS: Final = {"tokenIds": [[5, 9, 31, 4, 17], [7, 3]]}
LOSS: Final = {"kind": "nextToken"}


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n    {body}"}


def documents() -> list[dict[str, Any]]:
    """One of every mode, and one that fails."""
    read = {"name": "read", "moduleName": "model.layers.*.mlp.gate_proj"}
    edit = {"name": "edit", "moduleName": "model.layers.1.mlp.up_proj", "edit": python("return inputs * 1.5")}
    raises = {"name": "raises", "moduleName": "model.layers.2", "edit": python("raise ValueError('mine')")}
    weight = {"name": "w", "moduleName": "model.layers.1.mlp.up_proj.weight", "hookType": "tensor"}
    gradient = {"name": "g", "moduleName": "model.layers.1.self_attn", "hookType": "full_backward"}
    adapter = {"a": {"kind": "lowRank", "inFeatures": 512, "outFeatures": 512, "rank": 4}}
    adapt = {"name": "adapt", "moduleName": "model.layers.2", "edit": python("return inputs + modules['a'](inputs)")}
    fit = {"mode": "train", "inputs": INPUTS, "loss": LOSS, "steps": 2, "optimizer": {"kind": "adam", "lr": 0.01}}
    backward = {"mode": "backward", "inputs": INPUTS, "loss": LOSS}
    bodies: list[dict[str, Any]] = [
        {"hooks": [read, edit], "runs": [{"inputs": INPUTS, "return": {"logits": "all"}}]},
        {"hooks": [edit], "runs": [{"mode": "generate", "inputs": INPUTS, "maxNewTokens": 3}]},
        {"hooks": [read, edit, weight, gradient], "runs": [backward]},
        {"modules": adapter, "hooks": [adapt], "runs": [fit]},
        {"hooks": [read, edit, raises], "runs": [backward]},
    ]
    return [parse_document({"version": 1, "model": "bench", **body}) for body in bodies]


def run(engine: Engine, index: int, body: dict[str, Any]) -> None:
    context = JobContext(f"job-{index}", 1, body, None, lambda _: b"")
    try:
        engine.execute(engine.prepare(context), lambda _event: None)
    except PatchbayError as problem:
        if "mine" not in problem.message:
            raise


def held(jobs: int, pool_size: int) -> dict[str, Any]:
    """Of all ranks; every rank calls it. What it says of the sandbox is true on the root."""
    gc.collect()
    own = psutil.Process()
    tensors = sum(issubclass(type(value), Tensor) for value in gc.get_objects())
    mine = torch.tensor([own.memory_info().rss, tensors, own.num_fds()])
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    rss, counts, files = zip(*(part.tolist() for part in parts), strict=True)
    pool = settled(own, pool_size) if dist.get_rank() == 0 else []
    return {
        "jobs": jobs,
        "mebibytes": [mebibytes(value) for value in rss],
        "tensors": counts,
        "files": files,
        "poolMebibytes": mebibytes(sum(proportional(each) for each in pool)),
        "poolProcesses": len(pool),
    }


def settled(own: psutil.Process, pool_size: int) -> list[psutil.Process]:
    """The zygote and the processes that wait, once the pool is full again."""
    until = time.monotonic() + SETTLE_S
    pool: list[psutil.Process] = own.children(recursive=True)
    while len(pool) != pool_size and time.monotonic() < until:
        time.sleep(0.05)
        pool = own.children(recursive=True)
    return pool


def proportional(process: psutil.Process) -> int:
    """Memory with a share of what forked processes have in common."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def mebibytes(value: int) -> float:
    return round(value / 2**20, 1)


def main() -> None:
    options = parser()
    options.add_argument("--jobs", type=int, default=500)
    arguments = options.parse_args()
    engine = start_engine(arguments)
    jobs, found = documents(), []
    pool_size = len(psutil.Process().children(recursive=True))
    every = max(len(jobs), arguments.jobs // POINTS)
    for index in range(arguments.jobs):
        run(engine, index, jobs[index % len(jobs)])
        if (index + 1) % every == 0 or index + 1 == arguments.jobs:
            found.append(held(index + 1, pool_size))
    if dist.get_rank() == 0:
        print(json.dumps(found))
    sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main()
