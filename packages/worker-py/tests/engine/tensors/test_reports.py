"""When the report of an edit is made: later where it can, before the model goes on where it must."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from patchbay_worker.hooks.editor import POSTPONED_BYTES, Editor, Work
from patchbay_worker.hooks.move_and_edit import LARGE_BYTES, move_and_edit
from patchbay_worker.hooks.report import HookReport
from patchbay_worker.sharding.collectives import HookMesh, ShardDims

from .test_links import linked, on_all


class InPlace:
    """A sandbox whose edits change nothing."""

    def edit(self, *, tensor: Tensor, meanwhile: Work, **_: Any) -> Tensor:
        meanwhile()
        return tensor


HOOK: Any = SimpleNamespace(spec=SimpleNamespace(source=0, graph=None))


class WatchedEditor(Editor):
    postponed = 0
    roused = 0

    def rouse(self) -> None:
        self.roused += 1

    def postpone(self, work: Work, nbytes: int) -> None:
        self.postponed += 1
        super().postpone(work, nbytes)


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
        ((8, LARGE_BYTES // 16), 1, False),
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


def test_what_was_postponed_is_done_while_edits_are_waited_for_once_it_holds_much_memory() -> None:
    editor, report = Editor(cast(Any, InPlace()), None), HookReport("r", "h", "m", "root")
    done: list[int] = []
    for number in range(3):
        editor.postpone(partial(done.append, number), POSTPONED_BYTES // 2)
        editor.run(HOOK, torch.ones(2), {}, report)
        assert done == list(range(number - 1)), "in order, as few as it takes"


def test_many_small_ones_are_not_postponed_without_end() -> None:
    editor, report = Editor(cast(Any, InPlace()), None), HookReport("r", "h", "m", "root")
    done: list[int] = []
    for number in range(2000):
        editor.postpone(partial(done.append, number), 1)
        editor.run(HOOK, torch.ones(2), {}, report)
    assert 1000 < len(done) < 2000


def test_a_report_has_all_edits_however_many_wait() -> None:
    report = HookReport("r", "h", "m", "root")
    before, after = torch.ones(4, 2), torch.full((4, 2), 2.0)
    for rows in (1, 3):
        report.edited(before[:rows], after[:rows], None)
    assert (report.to_json()["rowsTouched"], report.to_json()["relativeChange"]) == (4, 1.0)
