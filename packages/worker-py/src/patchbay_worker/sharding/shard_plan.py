"""Finds the layout of every site by measurement: local shapes and values from probes of the real ranks, full shapes
from a meta-device forward of the unsharded model, reasons from the weights (explain.py). What is not explained is
refused later, never guessed. Not here: running the probes (engine/load.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from patchbay_worker.sharding.checksum import Checksum, equal_on_all_ranks
from patchbay_worker.sharding.explain import explains, parallel_width
from patchbay_worker.sharding.layout import ANY, BATCH, SEQUENCE, TOKENS, Dim, Layout, Site, SiteKind
from patchbay_worker.sharding.probe import Key, Leaf, Probe

REPLICATED = Layout("replicated")


@dataclass(frozen=True)
class ProbeSize:
    batch: int
    sequence: int


# Two probes differ in both sizes, so that dims are told apart by how they vary.
PROBE_SIZES = (ProbeSize(2, 5), ProbeSize(3, 7))


@dataclass(frozen=True)
class Measured:
    """All that is known when the plan is made."""

    small: Probe
    large: Probe
    full: Probe | None  # meta forward at the small size; None where the architecture cannot run on meta
    checksums: Sequence[Sequence[Checksum]]  # [rank][leaf], in the order of `small`
    tp: int


def symbolic(small: Sequence[int], large: Sequence[int]) -> tuple[Dim, ...]:
    """Names the dims that vary with batch and sequence."""
    one, two = PROBE_SIZES
    names = {
        (one.batch, two.batch): BATCH,
        (one.sequence, two.sequence): SEQUENCE,
        (one.batch * one.sequence, two.batch * two.sequence): TOKENS,
    }
    return tuple(a if a == b else names.get((a, b), ANY) for a, b in zip(small, large, strict=True))


def _sharded_dim(local: Sequence[int], full: Sequence[int], tp: int) -> int | None:
    """The only dim that is tp times larger in the full shape, all others being equal."""
    if len(local) != len(full):
        return None
    different = [dim for dim, (a, b) in enumerate(zip(local, full, strict=True)) if a != b]
    return different[0] if len(different) == 1 and full[different[0]] == tp * local[different[0]] else None


def _guess_full(model: nn.Module, key: Key, local: Sequence[int], tp: int) -> tuple[int, ...]:
    """Without a meta forward only parallel layers themselves say what their full width is."""
    width = parallel_width(model.get_submodule(key[0]), key[1])
    if width is None or local[-1] * tp != width:
        return tuple(local)
    return (*local[:-1], width)


def _layout(
    model: nn.Module, key: Key, local: Sequence[int], full: Sequence[int], shape: Sequence[Dim], equal: bool, tp: int
) -> Layout:
    if list(local) == list(full):
        if equal:
            return REPLICATED
        return Layout("partial", reason="the ranks hold different values of the full shape (partial results)")
    dim = _sharded_dim(local, full, tp)
    if dim is None:
        return Layout("unknown", reason=f"each rank holds {list(local)} of {list(full)}, which is no tp-th of one dim")
    if not explains(model, *key, dim, full, shape):
        return Layout("unknown", reason=f"dim {dim} is cut into {tp} parts that no weight of the tp plan accounts for")
    return Layout("sharded", dim=dim)


def _sites_of(model: nn.Module, key: Key, measured: Measured, equal: dict[tuple[Key, int], bool]) -> list[Site]:
    small = measured.small.leaves[key]
    large = {leaf.flat: leaf for leaf in measured.large.leaves.get(key, [])}
    full = {leaf.flat: leaf for leaf in measured.full.leaves.get(key, [])} if measured.full is not None else {}
    return [
        _site(model, key, number, leaf, large.get(leaf.flat), full.get(leaf.flat), equal[key, leaf.flat], measured)
        for number, leaf in enumerate(small)
    ]


def _site(
    model: nn.Module,
    key: Key,
    number: int,
    leaf: Leaf,
    large: Leaf | None,
    full_leaf: Leaf | None,
    equal: bool,
    measured: Measured,
) -> Site:
    name, kind = key
    irregular = key in measured.small.irregular or large is None or len(large.shape) != len(leaf.shape)
    local_symbols: tuple[Dim, ...] = (ANY,) * len(leaf.shape)
    if not irregular and large is not None:
        local_symbols = symbolic(leaf.shape, large.shape)
    if measured.tp == 1:
        return Site(name, kind, number, leaf.flat, local_symbols, REPLICATED, leaf.dtype)
    full = full_leaf.shape if full_leaf is not None else _guess_full(model, key, leaf.shape, measured.tp)
    if irregular and not equal:
        layout = Layout("unknown", reason="it is called several times with different shapes")
    else:
        layout = _layout(model, key, leaf.shape, full, local_symbols, equal, measured.tp)
    symbols = tuple(
        symbol if isinstance(symbol, str) or layout.dim != dim else full[dim]
        for dim, symbol in enumerate(local_symbols)
    )
    return Site(name, kind, number, leaf.flat, symbols, layout, leaf.dtype)


def make_sites(model: nn.Module, measured: Measured) -> list[Site]:
    """One site per tensor leaf of every module that the probe called, in module order."""
    order = [(key, leaf.flat) for key, leaves in measured.small.leaves.items() for leaf in leaves]
    equal = {
        place: equal_on_all_ranks([rank[index] for rank in measured.checksums]) for index, place in enumerate(order)
    }
    position = {name: index for index, (name, _) in enumerate(model.named_modules())}
    kinds: dict[SiteKind, int] = {"forward_pre": 0, "forward": 1}
    keys = sorted(measured.small.leaves, key=lambda key: (position[key[0]], kinds[key[1]]))
    return [site for key in keys for site in _sites_of(model, key, measured, equal)]
