"""When the report of an edit is made: later where it can, before the model goes on where it must."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from patchbay_worker.hooks.editor import Editor, Work
from patchbay_worker.hooks.move_and_edit import POSTPONED_BYTES, move_and_edit
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import HookMesh, ShardDims

from .test_links import linked, on_all


class WatchedEditor(Editor):
    postponed = 0
    roused = 0

    def rouse(self) -> None:
        self.roused += 1

    def postpone(self, work: Work) -> None:
        self.postponed += 1
        super().postpone(work)


def edit_and_go_on(full: Tensor, dim: int | None) -> tuple[dict[str, Any], bool]:
    """What the root reports of adding 1 to the first row, when the model at once overwrites what it got; and whether it
    was still to be made by then.
    """
    groups = linked([[0, 1]])
    dims = ShardDims(tp=dim)
    parts = [full.clone() for _ in groups] if dim is None else [each.clone() for each in full.chunk(2, dim)]
    editor, report = WatchedEditor(None, None), HookReport("r", "h", "m", "root")

    def edit(before: Tensor) -> Tensor:
        after = before.clone()
        after[0] += 1
        report.edited(before, after, None)
        return after

    def run(mesh: HookMesh) -> None:
        own = parts[mesh.tp.rank]
        mine = report if mesh.is_root else HookReport("r", "h", "m", "root")
        got = move_and_edit(own, dims, mesh, edit, mine, editor)
        for each in (own, got):
            each.fill_(-1)

    on_all(groups, run)
    assert editor.roused == 1, "by the root, for each edit"
    return report.to_json(), editor.postponed == 1


@pytest.mark.parametrize(
    ("shape", "dim", "later"),
    [
        ((4, 6), 1, True),
        ((4, 6), 0, False),
        ((1, 4, 6), 1, False),
        ((1, 4, 6), 2, True),
        ((4, 6), None, False),
        ((8, POSTPONED_BYTES // 16), 1, False),
    ],
)
def test_what_the_model_does_next_changes_no_report(shape: tuple[int, ...], dim: int | None, later: bool) -> None:
    full = torch.randn(shape)
    found, postponed = edit_and_go_on(full, dim)
    assert postponed is later, "tensors of our own wait, those of the model and large ones do not"
    after = full.clone()
    after[0] += 1
    expected = HookReport("r", "h", "m", "root")
    expected.edited(full, after, None)
    told = expected.to_json()
    assert found["rowsTouched"] == told["rowsTouched"] == full[0].numel() // full.shape[-1]
    assert found["relativeChange"] == pytest.approx(told["relativeChange"]) != 0


def test_what_was_postponed_is_done_before_the_next_is_taken() -> None:
    editor = Editor(None, None)
    done: list[int] = []
    for number in range(3):
        editor.postpone(partial(done.append, number))
    assert done == [0, 1], "at most one waits"
