"""The small parts alone: names, selections, leaves, shapes, layouts, samplers. No process is started."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from transformers.modeling_outputs import BaseModelOutputWithPast

from patchbay_worker.engine.job.job_spec import Sampling
from patchbay_worker.engine.run.sampling import Sampler
from patchbay_worker.errors import PatchbayError
from patchbay_worker.hooks.match import matching
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.hooks.selection import TokenView, select
from patchbay_worker.hooks.spec import Span, Where
from patchbay_worker.hooks.unpack import pick
from patchbay_worker.sharding.checksum import equal_on_all_ranks
from patchbay_worker.sharding.expected_shape import check_expected_shape
from patchbay_worker.sharding.layout import Layout, Site
from patchbay_worker.sharding.mesh import Mesh, check_mesh
from patchbay_worker.sharding.shard_plan import symbolic

NAMES = [
    "model",
    "model.layers",
    "model.layers.0",
    "model.layers.0.mlp",
    "model.layers.1",
    "model.layers.1.mlp",
    "lm_head",
]


@pytest.mark.parametrize(
    ("glob", "want"),
    [
        ("model.layers.*", ["model.layers.0", "model.layers.1"]),
        ("model.layers.*.mlp", ["model.layers.0.mlp", "model.layers.1.mlp"]),
        ("**.mlp", ["model.layers.0.mlp", "model.layers.1.mlp"]),
        ("model.**", NAMES[:-1]),
        ("model.layers.[01]", ["model.layers.0", "model.layers.1"]),
        ("*_head", ["lm_head"]),
        ("model.layers", ["model.layers"]),
        ("model.layers.2", []),
        ("layers.*", []),
    ],
)
def test_names(glob: str, want: list[str]) -> None:
    assert matching(glob, NAMES) == want


PROMPT = TokenView(0, [[5, 9, 31, 4], [7, 3]], [0, 0], 4, [4, 2])
STEP = TokenView(3, [[11], []], [6, 4], 1, [4, 2])


@pytest.mark.parametrize(
    ("view", "where", "want"),
    [
        (PROMPT, Where(positions=(-1,)), [(0, [3]), (1, [1])]),
        (PROMPT, Where(positions=(3, 0)), [(0, [3, 0]), (1, [0])]),
        (PROMPT, Where(rows=(1, 0)), [(1, [0, 1]), (0, [0, 1, 2, 3])]),
        (PROMPT, Where(positions=Span(-2, None)), [(0, [2, 3]), (1, [0, 1])]),
        (PROMPT, Where(positions=Span(-9, 1)), [(0, [0]), (1, [0])]),
        (PROMPT, Where(positions=(2,)), [(0, [2])]),
        (PROMPT, Where(steps=(1,)), None),
        (PROMPT, Where(positions=(-9,)), None),
        (STEP, Where(steps=(3,)), [(0, [0])]),
        (STEP, Where(positions=(6,)), [(0, [0])]),
        (STEP, Where(positions=(-1,)), None),
        (STEP, Where(positions=Span(5, None)), [(0, [0])]),
    ],
)
def test_selections(view: TokenView, where: Where, want: list[tuple[int, list[int]]] | None) -> None:
    selection = select(where, view)
    found = None if selection is None else list(zip(selection.rows, selection.columns, strict=True))
    assert found == want


def test_take_and_put_are_inverse_and_leave_the_rest() -> None:
    value = torch.arange(2 * 4 * 3.0).view(2, 4, 3)
    selection = select(Where(positions=Span(1, None)), PROMPT)
    assert selection is not None
    part = selection.take(value)
    assert part.shape == (2, 3, 3)
    assert torch.equal(part[0], value[0, 1:])
    assert torch.equal(part[1], torch.stack([value[1, 1], torch.zeros(3), torch.zeros(3)]))
    assert torch.equal(selection.put(value, part), value)
    want = value.clone()
    want[0, 1:] = -1
    want[1, 1] = -1
    assert torch.equal(selection.put(value, torch.full_like(part, -1)), want)


def test_leaves_are_counted_depth_first_without_none() -> None:
    a, b, c = torch.zeros(1), torch.ones(1), torch.ones(2)
    tree = ((a, None), {"x": 3, "y": [b, c]})
    for index, (leaf, flat) in enumerate([(a, 0), (b, 3), (c, 4)]):
        picked = pick(tree, index)
        assert picked is not None
        assert picked.tensor is leaf
        assert picked.flat == flat
    assert pick(tree, 3) is None
    assert pick(None, 0) is None
    picked = pick(tree, 1)
    assert picked is not None
    new = torch.full((1,), 5.0)
    (first, none), mapping = picked.replaced(new)
    assert (first is a, none, mapping["x"], mapping["y"][0] is new, mapping["y"][1] is c) == (True, None, 3, True, True)


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


MODEL_OUTPUT: dict[str, Any] = {"last_hidden_state": torch.zeros(1), "hidden_states": (torch.zeros(1), torch.ones(1))}
CONTAINERS: list[tuple[Any, int]] = [
    ((torch.zeros(1), torch.ones(1)), 1),
    ([torch.zeros(1), (None, torch.ones(1))], 1),
    ({"b": torch.zeros(1), "a": {"c": torch.ones(1)}}, 1),
    (OrderedDict(x=3, y=torch.ones(1)), 0),
    (Pair(torch.zeros(1), torch.ones(1)), 1),
    (Pair(torch.ones(1), None), 0),
    (BaseModelOutputWithPast(**MODEL_OUTPUT), 2),
    (((Pair(torch.zeros(1), None),), {"mask": None, "hidden_states": torch.ones(1)}), 1),
    (torch.ones(1), 0),
]


@pytest.mark.parametrize(("tree", "index"), CONTAINERS, ids=lambda each: type(each).__name__)
def test_any_container_is_rebuilt_exactly(tree: Any, index: int) -> None:
    picked = pick(tree, index)
    assert picked is not None
    assert float(picked.tensor) == 1
    new = torch.full((1,), 7.0)
    rebuilt = picked.replaced(new)
    assert type(rebuilt) is type(tree)
    (old_leaves, old_spec), (leaves, spec) = pytree.tree_flatten(tree), pytree.tree_flatten(rebuilt)
    assert spec == old_spec
    for place, (old, leaf) in enumerate(zip(old_leaves, leaves, strict=True)):
        assert leaf is (new if place == picked.flat else old)
    assert picked.replaced(picked.tensor) is not None
    assert pick(tree, 9) is None


def test_dims_are_named_by_how_they_vary() -> None:
    assert symbolic((2, 5, 64), (3, 7, 64)) == ("B", "S", 64)
    assert symbolic((10, 4), (21, 4)) == ("B*S", 4)
    assert symbolic((2, 1, 5, 6), (3, 1, 7, 9)) == ("B", 1, "S", "?")


def test_values_that_differ_between_ranks_are_seen() -> None:
    assert equal_on_all_ranks([(1.0, 10.0, 2.0), (1.0, 10.0, 2.0)])
    assert not equal_on_all_ranks([(1.0, 10.0, 2.0), (1.0, 10.0, 2.1)])


SHARDED = Site("m", "forward", 0, 0, ("B", "S", 128), Layout("sharded", dim=2), "float32")


@pytest.mark.parametrize("expected", [(None, None, 128), (2, 5, None), (None, None, None), (2, None, 128)])
def test_fitting_shapes(expected: tuple[int | None, ...]) -> None:
    check_expected_shape(expected, SHARDED, [(2, 5)], 4, "p")


@pytest.mark.parametrize("expected", [(None, None, 32), (5, 2, 128), (128,), (None, None, 128, None), (2, 5, 127)])
def test_other_shapes(expected: tuple[int | None, ...]) -> None:
    with pytest.raises(PatchbayError, match=r"rank 3: \[2, 5, 32\]"):
        check_expected_shape(expected, SHARDED, [(2, 5)], 4, "p")


@pytest.mark.parametrize(
    ("mesh", "world"),
    [
        (Mesh(2, 2, 1), 4),
        (Mesh(2, 1, 1), 1),
        (Mesh(1, 1, 2), 1),
        (Mesh(1, 1, 0), 0),
        (Mesh(2, 2, 1, fsdp=True), 4),
        (Mesh(1, 1, 2, fsdp=True), 2),
        (Mesh(1, 2, 1, experts=True), 2),
        (Mesh(2, 1, 2, experts=True), 4),
    ],
)
def test_meshes(mesh: Mesh, world: int) -> None:
    with pytest.raises(PatchbayError, match="PB_MESH_UNSUPPORTED"):
        check_mesh(mesh, world)


def test_places_on_a_mesh() -> None:
    mesh = Mesh(2, 3, 2)
    assert [mesh.rank(*mesh.place(rank)) for rank in range(12)] == list(range(12))
    assert mesh.place(9) == (1, 1, 1)
    assert mesh.tp_groups()[:2] == [[0, 1], [2, 3]]
    assert mesh.dp_groups()[:2] == [[0, 2, 4], [1, 3, 5]]
    assert mesh.dp_groups()[2] == [6, 8, 10]


def _report(before: Tensor, after: Tensor, mask: Tensor | None) -> dict[str, Any]:
    report = HookReport("r", "h", "m", "root")
    report.edited(before, after, mask)
    return report.to_json()


def test_touched_rows_of_heads_are_tokens() -> None:
    """[rows, width, heads, dim]: with padding or without, a token counts once."""
    before = torch.ones(1, 3, 4, 2)
    report = HookReport("r", "h", "m", "root")
    report.edited(before, before * 2, None, 2)
    assert report.to_json()["rowsTouched"] == 3


def test_touched_rows_are_real_tokens_whose_vector_changed() -> None:
    before = torch.ones(2, 3, 4)
    after = before.clone()
    after[0, 1, 2] = 3
    after[1] = 2
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert _report(before, after, None)["rowsTouched"] == 4
    masked = _report(before, after, mask)
    assert masked["rowsTouched"] == 2
    assert masked["relativeChange"] == pytest.approx(((4 + 4) / 16) ** 0.5)
    assert _report(before, before, mask)["relativeChange"] == 0
    assert _report(before, after * float("nan"), mask)["relativeChange"] is None
    assert _report(torch.zeros(2, 3), torch.ones(2, 3), None) == {
        **_report(torch.zeros(2, 3), torch.zeros(2, 3), None),
        "rowsTouched": 2,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_a_row_is_touched_by_the_least_change(dtype: torch.dtype) -> None:
    before = torch.zeros(2, 3, 4).to(dtype)
    after = before.clone()
    if dtype is torch.int64:
        before[0, 1, 2], after[0, 1, 2] = 2**53, 2**53 + 1  # the same in float32, and in float64
    else:
        after[0, 1, 2] = 1e-30  # its square is nothing in float32
    after[1, 0] = 1
    assert _report(before, after, None)["rowsTouched"] == 2
    assert _report(before, before.clone(), None)["rowsTouched"] == 0


def test_values_that_are_no_numbers() -> None:
    before = torch.ones(2, 3)
    before[0, 0] = float("inf")
    after = before.clone()
    report = _report(before, after, None)
    assert (report["rowsTouched"], report["notFinite"], report["relativeChange"]) == (0, 0, None)
    after[1, 2] = float("nan")
    report = _report(before, after, None)
    assert (report["rowsTouched"], report["notFinite"], report["relativeChange"]) == (1, 1, None)


def test_tensors_without_values() -> None:
    assert _report(torch.zeros(2, 3, 0), torch.zeros(2, 3, 0), None)["rowsTouched"] == 0
    assert _report(torch.zeros(0, 3), torch.zeros(0, 3), None)["rowsTouched"] == 0


def test_nucleus_and_temperature() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))

    def drawn(temperature: float, top_p: float) -> set[int]:
        sampler = Sampler(Sampling(1, temperature, top_p), 0)
        return {sampler.next_tokens(logits)[0] for _ in range(300)}

    assert drawn(0, 1) == {0}
    assert drawn(1, 1) == {0, 1, 2, 3}
    assert drawn(1, 0.79) == {0, 1}
    assert drawn(1, 0.81) == {0, 1, 2}
    assert drawn(0.01, 1) == {0}
