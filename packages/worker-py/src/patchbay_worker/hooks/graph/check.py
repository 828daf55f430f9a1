"""Whether a graph fits a tensor: shapes, dtype and memory, found on tensors without values before anything is computed.

Not here: names (read.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from patchbay_worker.errors import error
from patchbay_worker.hooks.graph.graph import INPUT, Graph, Shard, Step
from patchbay_worker.hooks.graph.operations import MIXING, MOVING, Operand


def run_checked(graph: Graph, x: Tensor, shard: Shard | None = None, padded: int = 0) -> Tensor:
    """The result for `x`, which may be a shard. Raises what `check_graph` raises, before it computes anything."""
    shape = list(x.shape)
    if shard is not None:
        shape[shard.dim] *= shard.size
    key = (tuple(shape), x.dtype, padded)
    if key not in graph.fitting:
        check_graph(graph, tuple(shape), x.dtype, padded)
        graph.fitting.add(key)
    return graph.run(x, shard)


def check_graph(graph: Graph, shape: tuple[int, ...], dtype: torch.dtype, padded: int = 0) -> None:
    """Against all of the hook's tensor, whatever part of it a rank has. `padded` leading dims hold padding besides
    tokens.

    Raises PB_EDIT_GRAPH for a step that does not fit or would count padding, PB_EDIT_SHAPE, PB_EDIT_DTYPE,
    PB_LIMIT_EXCEEDED.
    """
    x = torch.empty(shape, dtype=dtype, device="meta")
    values: dict[str, Operand] = {INPUT: x, **graph.operands(x)}
    size = sum(value.nbytes for value in values.values() if isinstance(value, Tensor)) - x.nbytes
    from_x = {INPUT}
    for step in graph.steps:
        result = step.run(values, x.shape)
        if padded:
            _refuse_padding(step, values, from_x, padded)
        values[step.key] = result
        if from_x.intersection(each for each in step.arguments if isinstance(each, str)):
            from_x.add(step.key)
        size += result.nbytes
    last = graph.steps[-1]
    if size > graph.limit_bytes:
        what = f"bytes of all results in the graph of hook {graph.hook}"
        raise error("PB_LIMIT_EXCEEDED", path=graph.path, what=what, limit=graph.limit_bytes, actual=size)
    if result.shape != x.shape:
        raise error("PB_EDIT_SHAPE", path=last.path, hook=graph.hook, actual=list(result.shape), expected=list(shape))
    if result.dtype != x.dtype:
        raise error("PB_EDIT_DTYPE", path=last.path, hook=graph.hook, actual=_name(result), expected=_name(x))


def _refuse_padding(step: Step, values: dict[str, Operand], from_x: set[str], padded: int) -> None:
    """For an operation that mixes along a dim in which rows of different lengths are filled up."""
    for position, name in enumerate(step.arguments):
        value = values[name] if isinstance(name, str) and name in from_x else None
        if not isinstance(value, Tensor) or step.op not in MIXING | MOVING:
            continue
        summed = -2 if position else -1  # by a matmul
        dim = value.ndim + (summed if step.op == "matmul" else step.options["dim"])
        if dim < padded:
            reason = f"{step.op} along dim {dim} of {list(value.shape)} would count the padding of shorter rows"
            raise step.problem(f"{reason}; choose tokens with where, or put rows of one length into a run")


def _name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
