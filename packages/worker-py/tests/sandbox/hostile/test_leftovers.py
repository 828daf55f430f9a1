"""What an edit leaves behind for the code after it in the same process: threads, hooks, broken parts of Python.

It may spoil its own job, in a bounded time and by an error of the catalogue that blames the edit; nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.lockdown.plan import Plan

from ..support import FACTS, edit, run
from .conftest import LEVELS, PoolOf, Watch

LIMITS = SandboxLimits(edit_timeout_s=0.5, save_ctx_bytes=1 << 20)
BOUND_S = 60.0
"""Far more than all time-outs of a case together: a busy machine is no hang."""
HERS = (
    "PB_EDIT_TIMEOUT",
    "PB_EDIT_FAILED",
    "PB_EDIT_CRASHED",
    "PB_EDIT_MEMORY",
    "PB_EDIT_BLOCKED",
    "PB_EDIT_SHAPE",
    "PB_EDIT_DTYPE",
    "PB_EDIT_RETURNED_NONE",
    "PB_LIMIT_EXCEEDED",
    "PB_NOTHING_TO_TRAIN",
)
"""Codes that blame the edit: never retried, never the operator's fault."""

BEFORE = """
import atexit, builtins, gc, json, os, signal, sys, threading, time
def spin(*_, **__):
    while True: pass
def fail(*_, **__):
    raise ValueError("left behind")
"""
LEFT = {
    "a thread that spins": "threading.Thread(target=spin, daemon=True).start()",
    "threads that are in the way": "[threading.Thread(target=spin).start() for _ in range(4)]",
    "a thread that stops the process": "threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()",
    "a thread that kills the process": "threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGKILL)).start()",
    "a thread that speaks": "threading.Thread(target=lambda: [os.write(3, b'PBS1') for _ in range(9999)]).start()",
    "a thread that listens": "threading.Thread(target=lambda: [os.read(3, 1 << 16) for _ in range(9)]).start()",
    "a thread that closes": "threading.Thread(target=lambda: os.close(3)).start()",
    "a thread that takes memory": "kept = []\ndef take():\n    while True: kept.append(bytearray(1 << 24))\n"
    "threading.Thread(target=take, daemon=True).start()",
    "a trace that fails": "sys.settrace(fail)",
    "a trace that never ends": "sys.settrace(spin)",
    "a profile that fails": "sys.setprofile(fail)",
    "a profile that never ends": "threading.setprofile(spin)\nsys.setprofile(spin)",
    "an audit that fails": "sys.addaudithook(fail)",
    "an audit that never ends": "sys.addaudithook(spin)",
    "a collector that fails": "gc.callbacks.append(fail)\ngc.set_threshold(1)",
    "a collector that never ends": "gc.callbacks.append(spin)\ngc.set_threshold(1)",
    "an exit that never ends": "atexit.register(spin)",
    "a finaliser that never ends": "D = type('D', (), {'__del__': spin})\nsave_ctx.d = D()",
    "a finaliser of a circle": "D = type('D', (), {'__del__': spin})\nd = D()\nd.me = d\ngc.set_threshold(1)",
    "hooks of exceptions": "sys.excepthook = sys.unraisablehook = threading.excepthook = spin\n"
    "type('D', (), {'__del__': fail})()",
    "handlers of signals": "[signal.signal(n, spin) for n in range(1, 32) if n not in (9, 19)]",
    "an alarm by a thread": "threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()",
    "a write that never ends": "os.write = spin",
    "a read that fails": "os.read = fail",
    "JSON that never ends": "json.JSONEncoder.encode = json.JSONDecoder.decode = spin",
    "no builtins": "vars(builtins).update(len=None, isinstance=None, tuple=None, print=None)",
    "no modules": "sys.modules.clear()",
    "no globals of ours": "import patchbay_worker.sandbox.job.server as s\nvars(s).clear()",
    "no recursion": "sys.setrecursionlimit(40)",
    "the lock for one thread": "sys.setswitchinterval(1e6)\nthreading.Thread(target=spin, daemon=True).start()",
    "another device": "torch.set_default_device('meta')",
    "another dtype": "torch.set_default_dtype(torch.float64)",
    "inference for good": "torch.inference_mode().__enter__()",
    "a mode of functions": "from torch.overrides import TorchFunctionMode\n"
    "type('M', (TorchFunctionMode,), {'__torch_function__': fail})().__enter__()",
    "a tensor that copies for ever": "torch.Tensor.copy_ = spin",
    "torch without numbers": "torch.frombuffer = lambda *a, **k: torch.zeros(1)",
    "many threads of torch": "torch.set_num_threads(64)\ntorch.ones(1 << 20).sum()",
    "no descriptors left": "try:\n    while True: os.dup(0)\nexcept OSError: pass",
    "a heap without end": "import ctypes\nctypes.CDLL(None).mallopt(-3, 0)\nctypes.CDLL(None).malloc_trim(0)",
}


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except PatchbayError as problem:
        return problem.code
    return "done"


def held(job: SandboxJob, steps: dict[str, Callable[[], object]]) -> str | None:
    """What is wrong with how these end, if anything is."""
    begun = time.monotonic()
    got = {name: outcome(step) for name, step in steps.items()}
    job.close()
    if time.monotonic() - begun > BOUND_S:
        return f"it took {time.monotonic() - begun:.0f} s: {got}"
    return str(got) if any(code not in ("done", *HERS) for code in got.values()) else None


def wrong_of(pool_of: PoolOf, level_number: int, cases: dict[str, str]) -> dict[str, str]:
    """Every third case at each level: what Python objects do does not depend on it."""
    pool = pool_of(Plan(LEVELS[level_number]))
    wrong: dict[str, str] = {}
    with Watch(pool):
        for name, body in list(cases.items())[level_number :: len(LEVELS)]:
            job = pool.acquire(LIMITS)
            job.init(seed=0, sources=[EditSource("left", BEFORE + edit(f"{body}\nreturn inputs")), AFTER])
            steps: dict[str, Callable[[], object]] = {
                "edit": lambda job=job: run(job),  # type: ignore[misc] # bound at once
                "next": lambda job=job: run(job, torch.ones(4), source=1),  # type: ignore[misc]
                "again": lambda job=job: run(job, torch.ones(4), source=1),  # type: ignore[misc]
                "collect": lambda job=job: job.collect(),  # type: ignore[misc]
            }
            if (problem := held(job, steps)) is not None:
                wrong[name] = problem
            assert job.ended(10), f"{name}: it is gone"
    return wrong


AFTER = EditSource("after", edit("return inputs * 2"))


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_what_is_left_behind_harms_its_own_job_alone(pool_of: PoolOf, level: int) -> None:
    assert wrong_of(pool_of, level, LEFT) == {}


# In an edit whose gradients are asked for; then backward, step, checkpoint.
TRAINED = {
    "a step that never ends": "from torch.optim.optimizer import register_optimizer_step_pre_hook as hook\nhook(spin)",
    "a step that fails": "from torch.optim.optimizer import register_optimizer_step_post_hook as hook\nhook(fail)",
    "a gradient that never comes": "modules['m'].weight.register_hook(spin)",
    "a gradient that fails": "modules['m'].weight.register_post_accumulate_grad_hook(fail)",
    "a gradient of another shape": "inputs.register_hook(lambda g: torch.ones(99))",
    "a gradient that is none": "modules['m'].weight.register_hook(lambda g: 7)",
    "a parameter that grows": "modules['m'].weight.data = torch.ones(4, 1 << 20)",
    "a parameter of another kind": "modules['m'].weight = torch.nn.Parameter(torch.ones(4, 4).to_sparse())",
    "a state that grows": "modules['m'].register_buffer('b', torch.ones(1 << 22))",
    "a module that calls itself": "modules['m'].forward = lambda x: modules['m'](x)",
    "a module within itself": "modules['m'].me = modules['m']",
    "hooks of every module": "torch.nn.modules.module.register_module_forward_hook(spin)",
    "a state that never ends": "modules['m'].state_dict = spin\nmodules['m']._save_to_state_dict = spin",
    "names that are none": "modules['m']._parameters['\\x1b[2J/../\\ud800'] = torch.nn.Parameter(torch.ones(1))",
    "an optimiser that is another": "torch.optim.SGD.step = spin",
}


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_a_training_that_attacks_its_own_step(pool_of: PoolOf, level: int) -> None:
    pool = pool_of(Plan(LEVELS[level]))
    wrong: dict[str, str] = {}
    with Watch(pool):
        for name, body in list(TRAINED.items())[level :: len(LEVELS)]:
            source = BEFORE + edit(f"{body}\nreturn modules['m'](inputs)")
            job = pool.acquire(LIMITS)
            spec = ModuleSpec("m", "linear", {"inFeatures": 4, "outFeatures": 4})
            job.init(seed=0, modules=[spec], sources=[EditSource("trained", source)])
            if (problem := held(job, steps_of(job))) is not None:
                wrong[name] = problem
            assert job.ended(10), f"{name}: it is gone"
    assert wrong == {}


def steps_of(job: SandboxJob) -> dict[str, Callable[[], object]]:
    return {
        "begin": lambda: job.begin_training({"kind": "sgd", "lr": 0.1}),
        "edit": lambda: job.edit(source=0, tensor=torch.ones(2, 4), current_module=FACTS, graph=1),
        "backward": lambda: job.backward(source=0, gradient=torch.ones(2, 4), graph=1, shape=(2, 4)),
        "step": job.step,
        "checkpoint": job.checkpoint,
        "collect": job.collect,
    }


def test_the_same_steps_without_an_attack_all_work(pool_of: PoolOf) -> None:
    job = pool_of(Plan()).acquire(SandboxLimits())
    spec = ModuleSpec("m", "linear", {"inFeatures": 4, "outFeatures": 4})
    job.init(seed=0, modules=[spec], sources=[EditSource("trained", BEFORE + edit("return modules['m'](inputs)"))])
    before = job.collect().modules["m.weight"]
    assert [outcome(step) for step in steps_of(job).values()] == ["done"] * 6
    assert (job.collect().modules["m.weight"] - before).abs().max() > 1e-3
    job.close()
