"""expectedShape as a checked assertion on top of the shard plan: it never decides a layout."""

from __future__ import annotations

from collections.abc import Sequence

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sharding.layout import BATCH, SEQUENCE, TOKENS, Dim, Site


def resolve(shape: Sequence[Dim], batch: int, sequence: int) -> list[Dim]:
    """Puts a run's sizes into a symbolic shape."""
    sizes: dict[str, Dim] = {BATCH: batch, SEQUENCE: sequence, TOKENS: batch * sequence}
    return [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape]


def check_expected_shape(
    expected: Sequence[int | None], site: Site, sizes: Sequence[tuple[int, int]], tp: int, path: str
) -> None:
    """`sizes` are the (batch, sequence) that the site will see; the assertion must hold for one of them.

    A generation sees its prompt once and then single tokens, so either sequence is right there.
    """
    if any(_fits(expected, resolve(site.shape, *size)) for size in sizes):
        return
    raise _mismatch(expected, site, sizes[0], tp, path)


def _fits(expected: Sequence[int | None], full: Sequence[Dim]) -> bool:
    return len(expected) == len(full) and all(
        want is None or isinstance(have, str) or want == have for want, have in zip(expected, full, strict=True)
    )


def _mismatch(expected: Sequence[int | None], site: Site, size: tuple[int, int], tp: int, path: str) -> PatchbayError:
    local = resolve(site.local_shape(tp), *size)
    return error(
        "PB_SHAPE_MISMATCH",
        path=path,
        module=site.module,
        expected=_text(expected),
        full=_text(resolve(site.shape, *size)),
        local=", ".join(f"rank {rank}: {_text(local)}" for rank in range(tp)),
    )


def _text(shape: Sequence[Dim | None]) -> str:
    return "[" + ", ".join("null" if dim is None else str(dim) for dim in shape) + "]"
