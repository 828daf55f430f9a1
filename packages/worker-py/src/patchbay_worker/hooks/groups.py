"""Which hooks of a job are on in a run. Unknown names and groups were refused with the document (contract)."""

from __future__ import annotations

from dataclasses import dataclass

from patchbay_worker.hooks.spec import HookSpec

ALL = "all"  # every hook is in it


@dataclass(frozen=True)
class HookSelection:
    """Either `names`, or the union of `groups`, or the complement of that union."""

    groups: tuple[str, ...] = (ALL,)
    complement: bool = False
    names: tuple[str, ...] | None = None


def is_enabled(hook: HookSpec, selection: HookSelection) -> bool:
    if selection.names is not None:
        return hook.name in selection.names
    in_union = ALL in selection.groups or not hook.groups.isdisjoint(selection.groups)
    return in_union != selection.complement
