"""Everything a user's source can do wrong: the code, the user's own line, and whether the next job works."""

from __future__ import annotations

import pytest
import torch

from patchbay_worker.sandbox.client import EditSource, ModuleSpec
from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.pool import SandboxPool

from .conftest import StartJob
from .support import edit, refused, run


def test_an_exception_has_the_users_type_message_line_and_frames(start: StartJob) -> None:
    source = (
        "def helper(x):\n"
        "    raise ValueError('no such neuron')\n"
        "\n"
        "def edit(current_module, inputs, save_ctx, modules):\n"
        "    return helper(inputs)\n"
    )
    problem = refused("PB_EDIT_FAILED", lambda: run(start(source)))
    assert problem.remote is not None
    assert problem.remote["type"] == "ValueError"
    assert problem.remote["line"] == 2
    trace = problem.remote["traceback"]
    assert "helper(inputs)" in trace
    assert "raise ValueError('no such neuron')" in trace
    assert trace.endswith("ValueError: no such neuron")
    assert "hook-0" in problem.message
    assert "patchbay_worker" not in trace


def test_an_error_inside_torch_shows_the_users_line_only(start: StartJob) -> None:
    problem = refused("PB_EDIT_FAILED", lambda: run(start(edit("x = 1\nreturn torch.nn.functional.linear(inputs, x)"))))
    assert problem.remote is not None
    assert problem.remote["line"] == 3
    assert "site-packages" not in problem.remote["traceback"]


def test_an_exception_leaves_the_job_usable(start: StartJob) -> None:
    job = start(edit("if inputs[0] > 0:\n    raise KeyError('x')\nreturn inputs"))
    refused("PB_EDIT_FAILED", lambda: run(job, torch.ones(2)))
    assert torch.equal(run(job, torch.zeros(2)), torch.zeros(2))


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("pass", "PB_EDIT_RETURNED_NONE", "NoneType"),
        ("return 3", "PB_EDIT_RETURNED_NONE", "int"),
        ("return np.zeros((1, 3, 4))", "PB_EDIT_RETURNED_NONE", "ndarray"),
        ("return inputs.to('meta')", "PB_EDIT_RETURNED_NONE", "meta"),
        ("return inputs.to_sparse()", "PB_EDIT_RETURNED_NONE", "sparse"),
        ("return inputs[:, :2]", "PB_EDIT_SHAPE", "[1, 2, 4], expected [1, 3, 4]"),
        ("return inputs.sum()", "PB_EDIT_SHAPE", "[], expected"),
        ("inputs.resize_(1)\nreturn inputs", "PB_EDIT_SHAPE", "[1], expected"),
        ("return inputs.double()", "PB_EDIT_DTYPE", "float64, expected float32"),
        ("return inputs.long()", "PB_EDIT_DTYPE", "int64"),
        ("raise SystemExit(0)", "PB_EDIT_FAILED", "SystemExit"),
        ("raise KeyboardInterrupt", "PB_EDIT_FAILED", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "PB_EDIT_FAILED", "RecursionError"),
        ("return current_module.weight", "PB_EDIT_FAILED", "it has: name, class_name"),
        ("return save_ctx.nothing", "PB_EDIT_FAILED", 'save_ctx has no "nothing"'),
        ("import no_such_module", "PB_EDIT_FAILED", "ModuleNotFoundError"),
        ("class Bad(Exception):\n    def __str__(self): raise Bad\nraise Bad", "PB_EDIT_FAILED", "cannot be shown"),
        ("import os; os._exit(0)", "PB_EDIT_CRASHED", "exited with status 0"),
        ("import ctypes; ctypes.string_at(0)", "PB_EDIT_CRASHED", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "PB_EDIT_CRASHED", "SIGKILL"),
        ("import os; os.abort()", "PB_EDIT_CRASHED", "SIGABRT"),
    ],
)
def test_a_faulty_edit(start: StartJob, body: str, code: str, says: str) -> None:
    problem = refused(code, lambda: run(start(edit(body))))
    assert says in problem.message
    assert torch.equal(run(start(edit("return inputs")), torch.ones(3)), torch.ones(3)), "the next job must work"


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("def edit(a, b, c, d)\n    return b", "PB_EDIT_SYNTAX", "line 1"),
        ("\n\ndef edit(a, b, c, d):\n    return (b", "PB_EDIT_SYNTAX", "line 4"),
        ("def edit(a, b, c, d):\n  return b\n return", "PB_EDIT_SYNTAX", "line 3"),
        ("x = '\ud800'", "PB_EDIT_SYNTAX", "surrogates"),
        ("x = '\0'", "PB_EDIT_SYNTAX", "null"),
        ("(" * 5000, "PB_EDIT_SYNTAX", "parenthes"),
        ("def other(a, b, c, d):\n    return b", "PB_EDIT_ENTRY_MISSING", '"edit"'),
        ("edit = 3", "PB_EDIT_ENTRY_MISSING", '"edit"'),
        ("def edit(inputs):\n    return inputs", "PB_EDIT_SIGNATURE", "edit(inputs)"),
        ("def edit(a, b, c, d, e):\n    return b", "PB_EDIT_SIGNATURE", "edit(a, b, c, d, e)"),
        ("import nothing_like_this", "PB_EDIT_FAILED", "ModuleNotFoundError"),
        ("1 / 0", "PB_EDIT_FAILED", "ZeroDivisionError"),
        ("raise SystemExit", "PB_EDIT_FAILED", "SystemExit"),
        ("import os; os._exit(3)", "PB_EDIT_CRASHED", "status 3"),
    ],
)
def test_a_faulty_source_is_refused_before_the_first_edit(start: StartJob, source: str, code: str, says: str) -> None:
    assert says in refused(code, lambda: start(source)).message


def test_star_arguments_and_another_entry_are_fine(start: StartJob) -> None:
    assert run(start("def mine(*args):\n    return args[1]", entry="mine"), torch.ones(2)).sum() == 2


def test_a_missing_entry_names_it(start: StartJob) -> None:
    problem = refused("PB_EDIT_ENTRY_MISSING", lambda: start(edit("return inputs"), entry="patch"))
    assert '"patch"' in problem.message


def test_a_source_over_the_limit_is_refused(pool: SandboxPool) -> None:
    with pool.acquire(SandboxLimits(source_bytes=100)) as job:
        long = EditSource("long", "#" * 101)
        refused("PB_LIMIT_EXCEEDED", lambda: job.init(seed=0, sources=[long]))


def test_a_large_source_passes(start: StartJob) -> None:
    assert run(start(edit("return inputs") + "# " + "x" * 200_000), torch.ones(2)).sum() == 2


def test_error_text_is_bounded_and_shows_no_controls(start: StartJob) -> None:
    body = "raise ValueError('\\x1b[2J\\u202e\\x00' + '\\u20ac' * 10_000_000)"
    problem = refused("PB_EDIT_FAILED", lambda: run(start(edit(body))))
    assert len(problem.message) < 2500
    assert "\\x1b[2J\\u202e\\x00€" in problem.message
    assert "\x1b" not in str(problem.to_json())


def test_a_failing_module_names_the_module(start: StartJob) -> None:
    spec = ModuleSpec("adapter", "python", {"source": "def build():\n    x = 1\n    raise ValueError('no')"})
    problem = refused("PB_EDIT_FAILED", lambda: start(edit("return inputs"), modules=[spec]))
    assert "adapter" in problem.message
    assert problem.remote is not None
    assert problem.remote["line"] == 3


def test_build_must_return_a_module(start: StartJob) -> None:
    spec = ModuleSpec("adapter", "python", {"source": "def build():\n    return 3"})
    assert "torch.nn.Module" in refused("PB_EDIT_RETURNED_NONE", lambda: start(modules=[spec])).message
