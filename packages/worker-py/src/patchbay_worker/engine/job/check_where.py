"""`where` against a run's inputs: rows, positions and steps that can never be met are refused, not silently empty."""

from __future__ import annotations

from patchbay_worker.engine.job.inputs import TokenBatch
from patchbay_worker.errors import error
from patchbay_worker.hooks.spec import HookSpec, Span


def check_where(spec: HookSpec, run: str, batch: TokenBatch, steps: int) -> None:
    """`steps` is the number of forward calls; the last new token of a generation is never fed back."""
    where = spec.where
    if where is None:
        return
    path = f"{spec.path}.where"
    rows = list(where.rows) if where.rows is not None else list(range(len(batch.tokens)))
    for row in rows:
        if row >= len(batch.tokens):
            reason = f"run {run} has {len(batch.tokens)} rows, there is no row {row}"
            raise error("PB_WHERE_EMPTY", path=f"{path}.rows", reason=reason)
    if where.steps is not None and min(where.steps) >= steps:
        raise error("PB_WHERE_EMPTY", path=f"{path}.steps", reason=f"run {run} has {steps} forward calls at most")
    ranges = [_reachable(batch.lengths[row], where.steps, steps) for row in rows]
    lengths = [batch.lengths[row] for row in rows]
    if isinstance(where.positions, Span):
        if not any(_meets(where.positions, length, reach) for length, reach in zip(lengths, ranges, strict=True)):
            reason = f"no token of run {run} lies between positions {where.positions.start} and {where.positions.stop}"
            raise error("PB_WHERE_EMPTY", path=f"{path}.positions", reason=reason)
    elif where.positions is not None:
        for index, position in enumerate(where.positions):
            absolute = [position + length if position < 0 else position for length in lengths]
            if not any(place in reach for place, reach in zip(absolute, ranges, strict=True)):
                reason = f"no chosen row of run {run} has a token at position {position} in the chosen steps"
                raise error("PB_WHERE_EMPTY", path=f"{path}.positions[{index}]", reason=reason)


def _reachable(length: int, chosen: tuple[int, ...] | None, steps: int) -> set[int]:
    """Absolute positions that the model sees: the prompt at step 0, then one per step."""
    wanted = range(steps) if chosen is None else [step for step in chosen if step < steps]
    prompt = set(range(length)) if 0 in wanted else set()
    return prompt | {length + step - 1 for step in wanted if step > 0}


def _meets(span: Span, length: int, reach: set[int]) -> bool:
    def absolute(position: int) -> int:
        return position + length if position < 0 else position

    start = absolute(span.start) if span.start is not None else 0
    stop = absolute(span.stop) if span.stop is not None else max(reach, default=-1) + 1
    return any(start <= place < stop for place in reach)
