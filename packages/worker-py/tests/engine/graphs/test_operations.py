"""Every operation that a document may name gives what torch's own gives; what fails leaves no rank waiting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from patchbay_worker.contract.schema import job_schema
from patchbay_worker.engine.run import run_context
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.graph.operations import compute
from patchbay_worker.hooks.report import HookReport

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
Y = torch.randn(8, generator=torch.Generator().manual_seed(2))
ON = X > 0
NAMED = {"gelu": functional.gelu, "silu": functional.silu}
WITH_OPTIONS: dict[str, tuple[list[Tensor], dict[str, Any], Tensor]] = {
    "norm": ([X], {"dim": -2}, X.square().sum(-2, keepdim=True).sqrt()),
    "softmax": ([X], {"dim": -2}, X.exp() / X.exp().sum(-2, keepdim=True)),
    "cumsum": ([X], {"dim": -2}, torch.stack([X[:, : n + 1].sum(1) for n in range(3)], 1)),
    "where": ([ON, X, Y], {}, X * ON + Y * ~ON),
    "clamp": ([X], {"min": -0.5, "max": 0.25}, X.maximum(torch.tensor(-0.5)).minimum(torch.tensor(0.25))),
    "matmul": ([X, Y], {}, (X * Y).sum(-1)),
    "fill": (
        [X],
        {"dim": -1, "indices": [2, 5], "value": 7},
        torch.where(torch.tensor([0, 0, 1, 0, 0, 1, 0, 0]) > 0, 7, X),
    ),
    "unflatten": ([X], {"dim": -1, "sizes": [2, 4]}, X.reshape(2, 3, 2, 4)),
    "flatten": ([X], {"dim": -2}, X.reshape(2, 24)),
    "expand": ([Y], {}, torch.stack([torch.stack([Y] * 3)] * 2)),
}


def listed() -> dict[str, dict[str, Any]]:
    """Operation -> its schema."""
    edits = job_schema()["properties"]["hooks"]["items"]["properties"]["edit"]["oneOf"]
    graph = next(each for each in edits if each["properties"]["kind"].get("const") == "graph")
    found: dict[str, dict[str, Any]] = {}
    for each in graph["properties"]["steps"]["items"]["oneOf"]:
        op = each["properties"]["op"]
        found |= dict.fromkeys([op["const"]] if "const" in op else op["enum"], each)
    return found


@pytest.mark.parametrize("op", sorted(listed()))
def test_an_operation_is_that_of_torch(op: str) -> None:
    schema = listed()[op]
    if op in WITH_OPTIONS:
        arguments, options, want = WITH_OPTIONS[op]
    else:
        arguments, options = [X, Y][: schema["properties"]["args"]["minItems"]], {}
        if op.startswith("logical"):
            arguments = [each > 0 for each in arguments]
        if op == "pow":
            arguments = [X.abs(), Y]
        function: Any = NAMED.get(op) or getattr(torch, op)
        if "dim" in schema["properties"]:
            options = {"dim": -1}
            want = function(X, -1, keepdim=True)
        else:
            want = function(*arguments)
    assert set(options) <= set(schema["properties"])
    got = compute(op, list(arguments), options, X.shape)
    torch.testing.assert_close(got, want, equal_nan=True)


def test_a_gradient_that_cannot_be_computed_ends_the_job_and_leaves_nobody_waiting() -> None:
    editor, report = Editor(None, None), HookReport("r", "h", "m", "root")
    source = torch.ones(2, requires_grad=True)
    result = source.exp()
    torch.autograd.backward(result.sum())  # its graph is gone
    editor._computed[1] = source, result
    hook: Any = SimpleNamespace(spec=SimpleNamespace(graph=object(), source=None))
    gradient = torch.full((2,), 3.0)
    assert editor.pull_back(hook, gradient, 1, report) is gradient
    assert editor.error is not None


@pytest.mark.parametrize(("failed", "code"), [(1.0, "PB_INTERNAL"), (0.0, None)])
def test_the_root_hears_of_a_rank_that_could_not_compute(
    monkeypatch: pytest.MonkeyPatch, failed: float, code: str | None
) -> None:
    def sum_over(value: Tensor, _group: object) -> Tensor:
        value[0] += failed
        return value

    monkeypatch.setattr(run_context, "sum_over", sum_over)
    editor = Editor(None, None)
    edit = SimpleNamespace(tp=None, dp=None, is_root=True)
    job: Any = SimpleNamespace(editor=editor, world=SimpleNamespace(device=torch.device("cpu"), edit=edit))
    active: Any = SimpleNamespace(report=HookReport("r", "h", "m", "local"))
    run_context._put_together(job, [active])
    assert (editor.error.code if editor.error is not None else None) == code
