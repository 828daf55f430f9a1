"""What hooks add to a pass through a sharded model, as ratios within one run. bench/sharding.ts starts it.

Cases are interleaved round by round in random order, so that a noisy neighbour hits all of them alike. With
PATCHBAY_FLEXMODEL (a checkout of VectorInstitute/flex_model) FlexModel's own hook runs in between on the same weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import EngineConfig, JobContext
from patchbay_worker.engine.engine import Engine
from patchbay_worker.hooks.capture import CaptureLog

LAYERS, WIDTH, MLP, VOCAB, TOKENS, ROWS = 8, 512, 2048, 1024, 64, 2
SHARDED, REPLICATED = "model.layers.*.mlp.gate_proj", "model.layers.*"
EDIT = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.001\n"
IDS = [[(7 * index + row) % VOCAB for index in range(TOKENS)] for row in range(ROWS)]
PYTHON = {"kind": "python", "source": EDIT}

Timed = Callable[[str], float]


@dataclass
class Case:
    """`base` is the case that it is a ratio to."""

    name: str
    base: str
    run: Timed
    seconds: list[float] = field(default_factory=list)


def make_checkpoint(folder: str) -> None:
    """A random Llama, large enough for its forward to be more than overhead."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=VOCAB,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    Path(folder, "ready").touch()


def document(hooks: list[dict[str, Any]], **run: Any) -> dict[str, Any]:
    body = {"version": 1, "model": "bench", "hooks": hooks, "runs": [{"inputs": {"tokenIds": IDS}, **run}]}
    parsed: dict[str, Any] = parse_document(body)
    return parsed


def backward(hooks: list[dict[str, Any]]) -> dict[str, Any]:
    return document(hooks, mode="backward", loss={"kind": "nextToken"})


def run_job(engine: Engine, body: dict[str, Any], job: str) -> float:
    """Seconds from the start of the runs to their end; building the plan and the sandbox is not counted."""
    context = JobContext(job_id=job, attempt=1, document=body, deadline_unix_ms=None, fetch_artifact=lambda _: b"")
    prepared = engine.prepare(context)
    started = time.perf_counter()
    engine.execute(prepared, lambda _event: None)
    return time.perf_counter() - started


def raw_hook(engine: Engine, body: dict[str, Any], job: str) -> float:
    """The same pass with a plain torch hook on every gate_proj of this rank: the floor."""
    handles = [
        module.register_forward_hook(lambda _m, _i, output: output * 1.001)
        for name, module in engine._loaded.model.named_modules()  # no public way to the weights, on purpose
        if name.endswith("mlp.gate_proj")
    ]
    try:
        return run_job(engine, body, job)
    finally:
        for handle in handles:
            handle.remove()


def blocking_read(engine: Engine, body: dict[str, Any], job: str) -> float:
    """Every read waited for where it starts, as it would be without a group of its own."""
    gather = CaptureLog.gather

    def wait(log: CaptureLog, *args: Any, **kwargs: Any) -> None:
        gather(log, *args, **kwargs)
        log.finish()

    CaptureLog.gather = wait  # type: ignore[method-assign, assignment]
    try:
        return run_job(engine, body, job)
    finally:
        CaptureLog.gather = gather  # type: ignore[method-assign]


def forward_cases(engine: Engine) -> list[Case]:
    plain, base = document([]), "no hook"
    read = document([{"moduleName": SHARDED}])
    jobs = {
        "read, replicated": document([{"moduleName": REPLICATED}]),
        "read, sharded": read,
        "python edit, replicated": document([{"moduleName": REPLICATED, "edit": PYTHON, "save": "none"}]),
        "python edit, sharded": document([{"moduleName": SHARDED, "edit": PYTHON, "save": "none"}]),
    }
    cases = [Case(base, base, partial(run_job, engine, plain))]
    cases.append(Case("raw torch hook", base, partial(raw_hook, engine, plain)))
    cases.append(Case("read, sharded, blocking", base, partial(blocking_read, engine, read)))
    return cases + [Case(name, base, partial(run_job, engine, body)) for name, body in jobs.items()]


def backward_cases(engine: Engine) -> list[Case]:
    base = "backward, no hook"
    kind = {"hookType": "full_backward_pre"}
    jobs = {
        base: backward([]),
        "backward, read gradient, sharded": backward([{"moduleName": SHARDED, **kind}]),
        "backward through a python edit": backward([{"moduleName": SHARDED, "edit": PYTHON, "save": "none"}]),
    }
    return [Case(name, base, partial(run_job, engine, body)) for name, body in jobs.items()]


def flexmodel_cases(engine: Engine, world: int) -> list[Case]:
    """FlexModel's hook with the same edit on the same modules; its base is the bare model, as its call is."""
    source = os.environ.get("PATCHBAY_FLEXMODEL")
    if not source or world == 1:
        return []
    sys.path.insert(0, source)
    from flex_model.core import FlexModel, HookFunction

    model, ids = engine._loaded.model, torch.tensor(IDS)
    hooked = FlexModel(model, {}, tensor_parallel_size=world, process_group=dist.group.WORLD)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.mlp.gate_proj"
        hooked.register_forward_hook(
            HookFunction(name, (None, None, MLP), lambda _module, inputs, _ctx, _modules: inputs * 1.001)
        )

    def bare(_job: str, groups: str | None) -> float:
        started = time.perf_counter()
        with torch.no_grad():
            if groups is None:
                model(ids, use_cache=False)
            else:
                hooked(ids, use_cache=False, groups=groups)
        return time.perf_counter() - started

    base = "bare model"
    return [
        Case(base, base, lambda job: bare(job, None)),
        Case("FlexModel hook, sharded", base, lambda job: bare(job, "all")),
    ]


def measure(cases: list[Case], rounds: int) -> None:
    order = random.Random(0)
    for index in range(-5, rounds):
        order.shuffle(cases)
        for case in cases:
            taken = case.run(f"job-{index}")
            if index >= 0:
                case.seconds.append(taken)


def gathered(engine: Engine) -> tuple[int, int]:
    """Bytes that the root reports for one sharded edit per layer, and what the formula says: S (n - 1) / n."""
    body = document([{"moduleName": SHARDED, "edit": PYTHON, "save": "none"}])
    context = JobContext("bytes", 1, body, None, lambda _: b"")
    output = engine.execute(engine.prepare(context), lambda _event: None)
    reported = sum(each["gatheredBytes"] for each in output.result["hooks"]) if output is not None else 0
    parts = engine._config.mesh.dp * engine._config.mesh.tp
    return reported, LAYERS * ROWS * TOKENS * MLP * 4 * (parts - 1) // parts


def rows_of(cases: list[Case]) -> list[dict[str, Any]]:
    medians = {case.name: statistics.median(case.seconds) for case in cases}
    return [
        {
            "case": case.name,
            "medianMs": round(medians[case.name] * 1e3, 3),
            "ratio": round(medians[case.name] / medians[case.base], 3),
            "msPerHook": round((medians[case.name] - medians[case.base]) * 1e3 / LAYERS, 3),
        }
        for case in sorted(cases, key=lambda case: (case.base, medians[case.name]))
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    for axis in ("pp", "dp", "tp"):
        parser.add_argument(f"--{axis}", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    folder = os.path.join(tempfile.gettempdir(), f"patchbay-bench-{os.environ['TORCHELASTIC_RUN_ID']}")
    if rank == 0:
        make_checkpoint(folder)
    while not os.path.exists(os.path.join(folder, "ready")):
        time.sleep(0.05)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    mesh = {"pp": arguments.pp, "dp": arguments.dp, "tp": arguments.tp}
    engine = Engine(
        EngineConfig(folder, "bench", **mesh, rank=rank, world_size=world, master_addr=address, master_port=port)
    )
    cases = [*forward_cases(engine), *backward_cases(engine)]
    if arguments.tp == world:
        cases += flexmodel_cases(engine, world)
    measure(cases, arguments.rounds)
    reported, formula = gathered(engine)
    if rank == 0:
        size = {"layers": LAYERS, "width": WIDTH, "mlp": MLP, "tokens": TOKENS, "rows": ROWS, "hooks": LAYERS}
        moved = {"reported": reported, "formula": formula}
        print(
            json.dumps(
                {
                    "mesh": mesh,
                    "rounds": arguments.rounds,
                    "model": size,
                    "gatheredBytes": moved,
                    "cases": rows_of(cases),
                }
            )
        )
    sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main()
