"""What hooks add to a pass through a sharded model, as ratios within one run. ranks/sharding.ts starts it.

Cases are interleaved round by round in random order, so that a noisy neighbour hits all of them alike. With
PATCHBAY_FLEXMODEL (a checkout of VectorInstitute/flex_model) FlexModel's own hook runs in between on the same weights.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from on_ranks import AXES, LAYERS, MLP, VOCAB, WIDTH, parser, start_engine
from ranks.spread import Round, spread
from wire import Route, formula, moved

from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import JobContext
from patchbay_worker.engine.engine import Engine
from patchbay_worker.hooks.capture import CaptureLog

TOKENS, ROWS = 64, 2
SHARDED, REPLICATED = "model.layers.*.mlp.gate_proj", "model.layers.*"
EDIT = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs * 1.001\n"
IDS = [[(7 * index + row) % VOCAB for index in range(TOKENS)] for row in range(ROWS)]
PAUSE_S = 0.06
PYTHON: dict[str, Any] = {"kind": "python", "source": EDIT}
GRAPH: dict[str, Any] = {"kind": "graph", "steps": [{"op": "mul", "args": ["x", 1.001]}]}

Timed = Callable[[str], float]
NO_HOOK, NO_HOOK_BACK, RAW = "no hook", "backward, no hook", "raw torch hook"
SHARDED_EDIT, FLEXMODEL, BARE = "python edit, sharded", "FlexModel hook, sharded", "bare model"
DUEL = (NO_HOOK, RAW, SHARDED_EDIT, BARE, FLEXMODEL)


@dataclass(frozen=True)
class Moves:
    """What a case has to move: `passes` of a tensor of `width` columns for every token and layer."""

    width: int
    route: Route
    passes: int = 1

    def bytes(self, mesh: dict[str, int]) -> int:
        size = LAYERS * ROWS * TOKENS * self.width * 4
        return self.passes * formula(mesh, size, self.route, replicated=self.width == WIDTH)


@dataclass
class Case:
    """`base` is the case that it is a ratio to."""

    name: str
    base: str
    run: Timed
    moves: Moves | None = None
    seconds: list[float] = field(default_factory=list)
    wire: int = 0


def document(hooks: list[dict[str, Any]], **run: Any) -> dict[str, Any]:
    body = {"version": 1, "model": "bench", "hooks": hooks, "runs": [{"inputs": {"tokenIds": IDS}, **run}]}
    parsed: dict[str, Any] = parse_document(body)
    return parsed


def backward(hooks: list[dict[str, Any]]) -> dict[str, Any]:
    return document(hooks, mode="backward", loss={"kind": "nextToken"})


def run_job(engine: Engine, body: dict[str, Any], job: str) -> float:
    """Seconds of the pass, with its hooks' reports, on rank 0. What a job costs besides is in `bench -- job`."""
    context = JobContext(job_id=job, attempt=1, document=body, deadline_unix_ms=None, fetch_artifact=lambda _: b"")
    output = engine.execute(engine.prepare(context), lambda _event: None)
    return float(output.result["timings"]["forwardMs"]) / 1e3 if output is not None else 0.0


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
    read = document([{"moduleName": SHARDED}])
    jobs = {
        "read, replicated": (document([{"moduleName": REPLICATED}]), Moves(WIDTH, "read")),
        "read, sharded": (read, Moves(MLP, "read")),
        "python edit, replicated": (document([edited(REPLICATED)]), Moves(WIDTH, "edit")),
        "graph edit, replicated": (document([edited(REPLICATED, GRAPH)]), Moves(WIDTH, "local")),
        "graph edit, sharded": (document([edited(SHARDED, GRAPH)]), Moves(MLP, "local")),
        SHARDED_EDIT: (document([edited(SHARDED)]), Moves(MLP, "edit")),
    }
    return [
        Case(NO_HOOK, NO_HOOK, partial(run_job, engine, document([]))),
        Case(RAW, NO_HOOK, partial(raw_hook, engine, document([]))),
        Case("read, sharded, blocking", NO_HOOK, partial(blocking_read, engine, read), Moves(MLP, "read")),
        *(Case(name, NO_HOOK, partial(run_job, engine, body), moves) for name, (body, moves) in jobs.items()),
    ]


def edited(module: str, edit: dict[str, Any] = PYTHON) -> dict[str, Any]:
    return {"moduleName": module, "edit": edit, "save": "none"}


def backward_cases(engine: Engine) -> list[Case]:
    kind = {"hookType": "full_backward_pre"}
    jobs = {
        NO_HOOK_BACK: (backward([]), None),
        "backward, read gradient, sharded": (backward([{"moduleName": SHARDED, **kind}]), Moves(MLP, "read")),
        "backward, edit gradient, sharded": (backward([{**edited(SHARDED), **kind}]), Moves(MLP, "edit")),
        "backward through a python edit": (backward([edited(SHARDED)]), Moves(MLP, "edit", passes=2)),
    }
    return [Case(name, NO_HOOK_BACK, partial(run_job, engine, body), moves) for name, (body, moves) in jobs.items()]


@contextmanager
def no_new_groups() -> Iterator[None]:
    """Destroys the process groups that were made inside. FlexModel keeps those of every model that it has wrapped, each
    with threads of its own: after some hundred passes they would slow every case down.
    """
    groups = dist.distributed_c10d._world.pg_map  # no public way to them
    before = set(groups)
    try:
        yield
    finally:
        for group in set(groups) - before:
            dist.destroy_process_group(group)


def flexmodel_cases(engine: Engine, world: int) -> list[Case]:
    """FlexModel's hook with the same edit on the same modules; its base is the bare model, as its call is."""
    source = os.environ.get("PATCHBAY_FLEXMODEL")
    if not source or world == 1:
        return []
    sys.path.insert(0, source)
    from flex_model.core import FlexModel, HookFunction

    model, ids = engine._loaded.model, torch.tensor(IDS)

    def call(model: Any) -> tuple[float, torch.Tensor]:
        started = time.perf_counter()
        with torch.no_grad():
            logits: torch.Tensor = model(ids, use_cache=False).logits
        return time.perf_counter() - started, logits

    def hooked(_job: str) -> float:
        """Its hooks are taken off again, or they would be in our own cases too: what it switches off stays off."""
        with no_new_groups():
            flex = FlexModel(model, {}, tensor_parallel_size=world, process_group=dist.group.WORLD)
            for layer in range(LAYERS):
                name = f"model.layers.{layer}.mlp.gate_proj"
                flex.register_forward_hook(
                    HookFunction(name, (None, None, MLP), lambda _module, inputs, _ctx, _modules: inputs * 1.001)
                )
            call(flex)  # its first call sets the hooks up
            taken, logits = call(flex)
            flex.restore()
        assert not torch.equal(logits, plain), "FlexModel's hooks do nothing"
        return taken

    plain = call(model)[1]
    assert torch.equal(call(model)[1], plain)
    return [
        Case(BARE, BARE, lambda _job: call(model)[0]),
        Case(FLEXMODEL, BARE, hooked),
    ]


def measure(cases: list[Case], rounds: int) -> None:
    """Each pass is timed after one of the same case that is not, since FlexModel's needs one to set its hooks up, and
    after a pause, in which the job before gives its sandbox away and another is made: a cost of jobs, not of hooks.
    """
    order = random.Random(0)
    for index in range(-5, rounds):
        order.shuffle(cases)
        for case in cases:
            case.run(f"warm-{index}")
            time.sleep(PAUSE_S)
            taken = case.run(f"job-{index}")
            if index >= 0:
                case.seconds.append(taken)


def count_wire(cases: list[Case]) -> None:
    """One more round, beside the timed ones, in which bytes are counted."""
    by_name = {case.name: moved(partial(case.run, "wire")) for case in cases if case.moves or case.base == case.name}
    for case in cases:
        case.wire = by_name.get(case.name, 0) - by_name[case.base]


def medians(rounds: Sequence[Round]) -> list[float]:
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def added(rounds: Sequence[Round]) -> float:
    """Milliseconds per hook, of rounds of (the case, its base)."""
    case, base = medians(rounds)
    return (case - base) * 1e3 / LAYERS


def share(rounds: Sequence[Round]) -> float:
    """Of rounds of (case, base, other case, its base): what the first adds in parts of what the other adds."""
    case, base, other, others_base = medians(rounds)
    return (case - base) / (other - others_base)


def together(cases: Sequence[Case]) -> list[Round]:
    return list(zip(*(case.seconds for case in cases), strict=True))


def rows_of(cases: list[Case], mesh: dict[str, int]) -> list[dict[str, Any]]:
    by_name = {case.name: case for case in cases}
    middle = {case.name: statistics.median(case.seconds) for case in cases}
    rounds = {case.name: together([case, by_name[case.base]]) for case in cases}
    return [
        {
            "case": case.name,
            "medianMs": round(middle[case.name] * 1e3, 3),
            "ratio": round(middle[case.name] / middle[case.base], 3),
            "msPerHook": round(added(rounds[case.name]), 3),
            "msPerHookBetween": spread(rounds[case.name], added),
            **({"wireBytes": case.wire, "formulaBytes": case.moves.bytes(mesh)} if case.moves else {}),
        }
        for case in sorted(cases, key=lambda case: (case.base, middle[case.name]))
    ]


def of_flexmodel(cases: list[Case]) -> dict[str, Any]:
    """The target is at most 1."""
    by_name = {case.name: case for case in cases}
    if FLEXMODEL not in by_name:
        return {}
    rounds = together([by_name[name] for name in (SHARDED_EDIT, NO_HOOK, FLEXMODEL, BARE)])
    return {"ofFlexModel": round(share(rounds), 3), "ofFlexModelBetween": spread(rounds, share)}


def main() -> None:
    options = parser()
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--duel", type=int, default=0, help="1: only what the comparison with FlexModel needs")
    arguments = options.parse_args()
    mesh = {axis: getattr(arguments, axis) for axis in AXES}
    engine = start_engine(arguments)
    cases = [*forward_cases(engine), *backward_cases(engine)]
    count_wire(list(cases))
    if mesh["tp"] == engine._config.world_size:
        cases += flexmodel_cases(engine, mesh["tp"])
    if arguments.duel:
        cases = [case for case in cases if case.name in DUEL]
    measure(cases, arguments.rounds)
    if int(os.environ["RANK"]) == 0:
        size = {"layers": LAYERS, "width": WIDTH, "mlp": MLP, "tokens": TOKENS, "rows": ROWS, "hooks": LAYERS}
        found = {"cases": rows_of(cases, mesh), **of_flexmodel(cases)}
        print(json.dumps({"mesh": mesh, "rounds": arguments.rounds, "model": size, **found}))
    sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    main()
