"""What all hooks of one run share on one rank. Not here: their registration (attach.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from patchbay_worker.hooks.capture import CaptureLog
from patchbay_worker.hooks.editor import Editor
from patchbay_worker.hooks.selection import Selection, TokenView, select
from patchbay_worker.hooks.spec import Where
from patchbay_worker.sharding.collectives import HookGroup


@dataclass
class RunScope:
    """`view` describes the forward call under way; the run sets it before each."""

    run: str
    group: HookGroup
    editor: Editor
    captures: CaptureLog
    _view: TokenView | None = None
    _selections: dict[Where | None, Selection | None] = field(default_factory=dict)

    @property
    def view(self) -> TokenView:
        assert self._view is not None, "the run sets the view before it calls the model"
        return self._view

    def begin_call(self, view: TokenView) -> None:
        self._view = view
        self._selections.clear()

    def selection(self, where: Where | None) -> Selection | None:
        """Hooks with equal `where` share one selection, with its labels and indices."""
        if where not in self._selections:
            self._selections[where] = select(where, self.view)
        return self._selections[where]
