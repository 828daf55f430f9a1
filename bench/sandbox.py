"""What the sandbox costs, against the same work in this process in the same run. JSON, for `npm run bench -- sandbox`.

Not here: whole jobs (sandbox.ts).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.level.choose import cgroup_of
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.plan import Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.settings import SandboxSettings
from patchbay_worker.sandbox.zygote_process import ZygoteProcess

FACTS: Final[dict[str, Any]] = {
    "name": "model.layers.7.mlp.gate_proj",
    "class_name": "Linear",
    "training": False,
    "run": "run-0",
    "call": 3,
    "step": 0,
    "shape": [1, 64, 2048],
    "batch": {"rows": [0], "lengths": [64], "token_ids": [list(range(64))], "positions": [list(range(64))]},
}
SAME: Final = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs\n"
LEARNS: Final = "def edit(current_module, inputs, save_ctx, modules):\n    return modules['m'](inputs) * 2\n"
SIZES: Final = {"1KB": (256,), "1MB": (512, 512), "42MB": (4, 512, 5120)}


def times(action: Callable[[], object], rounds: int) -> list[float]:
    """Microseconds per call, after a few that do not count."""
    for _ in range(max(3, rounds // 10)):
        action()
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        taken.append((time.perf_counter() - begun) * 1e6)
    return taken


def p(values: list[float], quantile: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * quantile))], 2)


def started(pool: SandboxPool, source: str, modules: list[ModuleSpec] | None = None) -> SandboxJob:
    job = pool.acquire()
    job.ensure_capacity(48 << 20)
    job.init(seed=0, modules=modules or [], sources=[EditSource("bench", source)])
    return job


def rounds_of(size: str, rounds: int) -> int:
    return max(10, rounds // 20) if size == "42MB" else rounds


def round_trips(pool: SandboxPool, rounds: int) -> dict[str, list[float]]:
    with started(pool, SAME) as job:
        found = {}
        for name, shape in SIZES.items():
            call = partial(job.edit, source=0, tensor=torch.zeros(shape), current_module=FACTS)
            found[name] = times(call, rounds_of(name, rounds))
        return found


def copies(rounds: int) -> dict[str, list[float]]:
    """A memcpy there and one back, into memory that is there already."""
    found = {}
    for name, shape in SIZES.items():
        source, middle, target = (torch.zeros(shape) for _ in range(3))

        def pair(source: Tensor = source, middle: Tensor = middle, target: Tensor = target) -> None:
            middle.copy_(source)
            target.copy_(middle)

        found[name] = times(pair, rounds_of(name, rounds))
    return found


def in_process(rounds: int) -> list[float]:
    namespace: dict[str, Any] = {}
    exec(SAME, namespace)
    function, value = namespace["edit"], torch.zeros(256)
    return times(lambda: function(None, value, None, None), rounds)


def lives(plan: Plan, rounds: int) -> dict[str, list[float]]:
    """Of a job: what a pool needs to make one, to hand it over, and to be rid of it. In milliseconds."""
    cgroup, _ = cgroup_of(SandboxSettings())
    zygote = ZygoteProcess(plan, cgroup)
    zygote.wait_ready()
    found: dict[str, list[float]] = {"refill": [], "handOver": [], "killAndReap": [], "privateMiB": []}
    try:
        for _ in range(rounds):
            begun = time.perf_counter()
            process = zygote.fork()
            made = time.perf_counter()
            found["privateMiB"].append(private_mib(process.pid))
            job = SandboxJob(process, SandboxLimits())
            before = time.perf_counter()
            job.init(seed=0, sources=[EditSource("bench", SAME)])
            ready = time.perf_counter()
            job.kill("bench")
            assert job.ended(5)
            ended = time.perf_counter()
            job.close()
            for name, taken in (("refill", made - begun), ("handOver", ready - before), ("killAndReap", ended - ready)):
                found[name].append(taken * 1e3)
    finally:
        zygote.close()
        if cgroup is not None:
            cgroup.close()
    return found


def private_mib(pid: int) -> float:
    """What only this job's processes have: its init and itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in (str(pid), *children):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total / 1024


def gradients_equal(pool: SandboxPool) -> bool:
    """Three steps of one module, there and here: inputs' gradients to the last bit."""
    torch.manual_seed(0)
    values = [torch.randn(4, 16) for _ in range(3)]
    spec = ModuleSpec("m", "linear", {"inFeatures": 16, "outFeatures": 16, "bias": True})
    with started(pool, LEARNS, [spec]) as job:
        torch.manual_seed(0)
        here = torch.nn.Linear(16, 16)
        equal = True
        for number, value in enumerate(values):
            theirs = job.edit(source=0, tensor=value, current_module=FACTS, graph=number)
            gradient = job.backward(source=0, gradient=torch.ones_like(theirs), graph=number, shape=(4, 16))
            own = value.clone().requires_grad_()
            (here(own) * 2).backward(torch.ones(4, 16))
            assert own.grad is not None
            equal &= torch.equal(gradient, own.grad)
    return equal


def main() -> None:
    rounds = int(sys.argv[1])
    torch.set_num_threads(1)
    plans = {"isolated": Plan("isolated"), "trusted": Plan("trusted")}
    trips: dict[str, dict[str, list[float]]] = {}
    alternating: dict[str, list[float]] = {name: [] for name in plans}
    pools = {name: SandboxPool(size=1, settings=SandboxSettings(plan=plan)) for name, plan in plans.items()}
    for pool in pools.values():
        pool.start()
        pool.wait_ready()
    for name, pool in pools.items():
        trips[name] = round_trips(pool, rounds)
    for _ in range(5):  # in turn, so that both see the same machine
        for name, pool in pools.items():
            alternating[name].append(statistics.median(round_trips(pool, rounds // 4)["1KB"]))
    equal = gradients_equal(pools["isolated"])
    for pool in pools.values():
        pool.close()
    life = lives(plans["isolated"], max(10, rounds // 50))
    copied, call = copies(rounds), in_process(rounds)
    result = {
        "load": os.getloadavg()[0],
        "inProcessUs": {"p50": p(call, 0.5), "p99": p(call, 0.99)},
        "memcpyPairUs": {name: p(values, 0.5) for name, values in copied.items()},
        "roundTripUs": {
            level: {name: {"p50": p(values, 0.5), "p99": p(values, 0.99)} for name, values in sizes.items()}
            for level, sizes in trips.items()
        },
        "lockDownShare": round(min(alternating["isolated"]) / min(alternating["trusted"]) - 1, 3),
        "lifeMs": {name: {"p50": p(values, 0.5), "p95": p(values, 0.95)} for name, values in life.items()},
        "gradientsEqual": equal,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
