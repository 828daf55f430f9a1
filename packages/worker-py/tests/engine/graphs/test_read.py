"""What a graph may say, and whether it fits a tensor, without any model."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.contract import parse_document
from patchbay_worker.errors import PatchbayError
from patchbay_worker.hooks.graph.check import check_graph, run_checked
from patchbay_worker.hooks.graph.graph import Graph, Shard
from patchbay_worker.hooks.graph.read import read_graph

V = {"v": {"artifact": "sha256:" + "0" * 64}}


def graph(*steps: dict[str, Any], limit_bytes: int = 1 << 30, **constants: Tensor) -> Graph:
    """Of steps as a document has them."""
    references = dict.fromkeys(constants, V["v"])
    edit = {"kind": "graph", "steps": list(steps), "tensors": references}
    hook = {"name": "h", "moduleName": "m", "edit": edit}
    document = parse_document({"version": 1, "model": "m", "hooks": [hook], "runs": [{"inputs": {"text": ["a"]}}]})
    made = read_graph("h", "hooks[0].edit", document["hooks"][0]["edit"])
    made.constants.update(constants)
    made.limit_bytes = limit_bytes
    return made


def step(op: str, *args: float | str, **options: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args), **options}


X = torch.randn(2, 3, 8)

WRONG: list[tuple[str, list[dict[str, Any]], str, str, str]] = [
    ("operand", [step("add", "y", 1)], "PB_EDIT_GRAPH", ".steps[0].args[0]", 'no "y"'),
    ("own name", [step("add", "x", "z", **{"as": "z"})], "PB_EDIT_GRAPH", ".steps[0].args[1]", 'no "z"'),
    ("later", [step("add", "b", 1), step("neg", "x", **{"as": "b"})], "PB_EDIT_GRAPH", ".steps[0].args[0]", 'no "b"'),
    ("numbers", [step("add", 1, 2)], "PB_EDIT_GRAPH", ".steps[0].args", "must be a tensor"),
    ("twice", [step("neg", "x", **{"as": "x"})], "PB_EDIT_GRAPH", ".steps[0].as", "the input"),
    ("unused", [step("neg", "x"), step("abs", "x")], "PB_EDIT_GRAPH", ".steps[0]", 'name it with "as"'),
    (
        "unused name",
        [step("neg", "x", **{"as": "a"}), step("abs", "x")],
        "PB_EDIT_GRAPH",
        ".steps[0]",
        "no later step uses",
    ),
    ("op", [step("ad", "x", 1)], "PB_DOCUMENT_INVALID", ".steps[0].op", "add"),
    ("arity", [step("add", "x")], "PB_DOCUMENT_INVALID", ".steps[0].args", ""),
    ("option", [step("sum", "x")], "PB_DOCUMENT_INVALID", ".steps[0].dim", "required"),
    ("foreign option", [step("add", "x", 1, dim=-1)], "PB_DOCUMENT_UNKNOWN_KEY", ".steps[0].dim", "dim"),
    ("dim from the left", [step("sum", "x", dim=0)], "PB_DOCUMENT_INVALID", ".steps[0].dim", ""),
    ("no step", [], "PB_DOCUMENT_INVALID", ".steps", ""),
]


@pytest.mark.parametrize(("steps", "code", "path", "text"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG])
def test_what_a_graph_may_not_say(steps: list[dict[str, Any]], code: str, path: str, text: str) -> None:
    with pytest.raises(PatchbayError) as refused:
        graph(*steps)
    assert (refused.value.code, refused.value.path) == (code, f"hooks[0].edit{path}")
    assert text in f"{refused.value.message} {refused.value.hint}"


def test_a_tensor_that_no_step_uses() -> None:
    with pytest.raises(PatchbayError) as refused:
        graph(step("neg", "x"), v=torch.ones(1))
    assert (refused.value.code, refused.value.path) == ("PB_EDIT_GRAPH", "hooks[0].edit.tensors.v")


UNFIT: list[tuple[str, Graph, str, int, str]] = [
    ("broadcast", graph(step("add", "x", "v"), v=torch.ones(7)), "PB_EDIT_GRAPH", 0, "[2, 3, 8] and torch.float32 [7]"),
    ("dim", graph(step("sum", "x", dim=-4)), "PB_EDIT_GRAPH", 0, "Dimension out of range"),
    ("shape", graph(step("sum", "x", dim=-1)), "PB_EDIT_SHAPE", 0, "[2, 3, 1]"),
    ("dtype", graph(step("gt", "x", 0)), "PB_EDIT_DTYPE", 0, "bool"),
    ("wider", graph(step("add", "x", "v"), v=torch.ones(2, 2, 3, 8)), "PB_EDIT_SHAPE", 0, "[2, 2, 3, 8]"),
    (
        "sizes",
        graph(step("unflatten", "x", dim=-1, sizes=[3, 3], **{"as": "h"}), step("flatten", "h", dim=-2)),
        "PB_EDIT_GRAPH",
        0,
        "unflatten",
    ),
    ("index", graph(step("fill", "x", dim=-1, indices=[1, 8], value=0)), "PB_EDIT_GRAPH", 0, "index 8 is out of range"),
    ("large", graph(step("clamp", "x", min=10**30, max=-(2**63) - 1)), "PB_EDIT_GRAPH", 0, "clamp"),
    (
        "condition",
        graph(step("neg", "x", **{"as": "n"}), step("where", "x", "n", 0)),
        "PB_EDIT_GRAPH",
        1,
        "where",
    ),
    (
        "memory",
        graph(
            step("unflatten", "x", dim=-1, sizes=[8, 1], **{"as": "a"}),
            step("add", "a", "v", **{"as": "big"}),
            step("sum", "big", dim=-1, **{"as": "s"}),
            step("flatten", "s", dim=-2),
            limit_bytes=1 << 20,
            v=torch.ones(1 << 13),
        ),
        "PB_LIMIT_EXCEEDED",
        -1,
        "1048576",
    ),
]


@pytest.mark.parametrize(("made", "code", "at", "text"), [case[1:] for case in UNFIT], ids=[c[0] for c in UNFIT])
def test_a_graph_that_does_not_fit_is_refused_before_it_is_computed(made: Graph, code: str, at: int, text: str) -> None:
    with pytest.raises(PatchbayError) as refused:
        check_graph(made, tuple(X.shape), X.dtype)
    assert refused.value.code == code
    assert text in refused.value.message
    assert refused.value.path == (f"hooks[0].edit.steps[{at}]" if at >= 0 else "hooks[0].edit")
    with pytest.raises(PatchbayError):
        run_checked(made, X)


@pytest.mark.parametrize(
    ("made", "crosses"),
    [
        (graph(step("softmax", "x", dim=-1)), False),
        (graph(step("softmax", "x", dim=-2)), True),
        (graph(step("cumsum", "x", dim=-3)), True),
        (graph(step("matmul", "x", "v"), v=torch.eye(8)), False),
        (graph(step("matmul", "v", "x"), v=torch.eye(3)), True),
        (
            graph(
                step("unflatten", "x", dim=-1, sizes=[2, 4], **{"as": "h"}),
                step("softmax", "h", dim=-2, **{"as": "s"}),
                step("flatten", "s", dim=-2),
            ),
            False,
        ),
        (graph(step("softmax", "v", dim=-2, **{"as": "s"}), step("add", "x", "s"), v=torch.ones(3, 8)), False),
    ],
)
def test_padding_is_never_counted(made: Graph, crosses: bool) -> None:
    """The two leading dims hold tokens and what fills shorter rows up."""
    check_graph(made, tuple(X.shape), X.dtype)
    if not crosses:
        check_graph(made, tuple(X.shape), X.dtype, padded=2)
        return
    with pytest.raises(PatchbayError, match="padding of shorter rows") as refused:
        check_graph(made, tuple(X.shape), X.dtype, padded=2)
    assert refused.value.code == "PB_EDIT_GRAPH"


def test_constants_are_used_in_the_dtype_of_the_input() -> None:
    made = graph(step("mul", "x", "v"), v=torch.tensor([1.0, 2.0], dtype=torch.float64))
    x = torch.randn(3, 2, dtype=torch.bfloat16)
    assert torch.equal(run_checked(made, x), x * torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    whole = graph(step("add", "x", "v"), v=torch.tensor([1, 2]))
    assert torch.equal(run_checked(whole, torch.tensor([3, 4])), torch.tensor([4, 6]))


def test_numbers_are_numbers_and_not_rounded_to_the_dtype_of_the_input() -> None:
    x = torch.randn(64, dtype=torch.bfloat16)
    assert torch.equal(run_checked(graph(step("mul", "x", 1.003)), x), x * 1.003)
    assert torch.equal(run_checked(graph(step("sub", 1, "x")), x), 1 - x)
    assert torch.equal(run_checked(graph(step("minimum", "x", 0.3)), x), x.clamp(max=0.3))
    assert torch.equal(run_checked(graph(step("maximum", 0.3, "x")), x), x.clamp(min=0.3))


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63, 1e308, -1, 0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_numbers_that_a_dtype_cannot_hold_are_refused_or_computed(number: float, dtype: torch.dtype) -> None:
    x = torch.ones(2, 8).to(dtype)
    for op in ("add", "pow", "minimum", "gt"):
        with contextlib.suppress(PatchbayError):
            assert run_checked(graph(step(op, "x", number)), x).dtype == dtype
    with contextlib.suppress(PatchbayError):
        run_checked(graph(step("fill", "x", dim=-1, indices=[0], value=number)), x)


def test_the_input_is_never_changed() -> None:
    x = torch.randn(4, 8)
    before = x.clone()
    run_checked(graph(step("fill", "x", dim=-1, indices=[0], value=5)), x)
    run_checked(graph(step("relu", "x", **{"as": "a"}), step("clamp", "a", min=0.1, max=0.2)), x)
    assert torch.equal(x, before)


def test_results_are_let_go_when_no_step_needs_them_any_more() -> None:
    made = graph(step("exp", "x", **{"as": "a"}), step("add", "a", "x", **{"as": "b"}), step("mul", "b", "b"))
    assert [set(each.last) for each in made.steps] == [set(), {"a", "x"}, {"b"}]


@pytest.mark.parametrize("dim", [-1, -2])
def test_a_shard_gets_its_part_of_the_constants(dim: int) -> None:
    made = graph(
        step("mul", "x", "v", **{"as": "a"}),
        step("add", "a", "w", **{"as": "b"}),
        step("sub", "b", "u"),
        v=torch.randn(8),
        w=torch.randn(4, 1),
        u=torch.randn(1),
    )
    x = torch.randn(2, 4, 8)
    whole = run_checked(made, x)
    parts = [run_checked(made, part, Shard(dim, rank, 2)) for rank, part in enumerate(x.chunk(2, dim))]
    assert torch.equal(torch.cat(parts, dim), whole)
