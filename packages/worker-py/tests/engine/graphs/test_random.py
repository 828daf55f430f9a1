"""Graphs drawn at random: wherever they say that they can, they give shard by shard what they give on the whole."""

from __future__ import annotations

import random
from typing import Any

import torch

from patchbay_worker.errors import PatchbayError
from patchbay_worker.hooks.graph.check import run_checked
from patchbay_worker.hooks.graph.graph import Graph, Shard

from .test_read import graph, step

UNARY = ["abs", "neg", "sign", "square", "sigmoid", "tanh", "relu", "gelu", "silu"]
BINARY = ["add", "sub", "mul", "minimum", "maximum"]
ALONG = ["sum", "mean", "amax", "amin", "norm", "softmax", "cumsum"]
SHAPE = (2, 4, 8)
COUNT = 400


def drawn(seed: int) -> Graph:
    """Up to eight steps, each on some earlier ones; the last brings all together in the shape of the input."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shapes = [(8,), (1,), (4, 1), (4, 8), (2, 1, 1), SHAPE]
    constants: dict[str, Any] = {name: torch.randn(draw.choice(shapes)) for name in ("v", "w")}
    names: list[str] = ["x", *constants]
    steps: list[dict[str, Any]] = []
    for index in range(draw.randint(1, 8)):
        kind = draw.choice(["unary", "binary", "along", "where", "fill", "clamp", "number", "expand"])
        first, second = draw.choice(names), draw.choice(names)
        name = f"s{index}"
        if kind == "unary":
            steps.append(step(draw.choice(UNARY), first))
        elif kind == "binary":
            steps.append(step(draw.choice(BINARY), first, second))
        elif kind == "along":
            steps.append(step(draw.choice(ALONG), first, dim=-draw.randint(1, 3)))
        elif kind == "where":
            steps.append(step("gt", first, 0, **{"as": f"c{index}"}))
            otherwise: list[float | str] = [0, first]
            steps.append(step("where", f"c{index}", second, draw.choice(otherwise)))
        elif kind == "fill":
            steps.append(step("fill", first, dim=-draw.randint(1, 3), indices=[0, 1], value=0.5))
        elif kind == "clamp":
            steps.append(step("clamp", first, min=-0.5))
        elif kind == "number":
            pair: list[float | str] = [first, 0.3]
            draw.shuffle(pair)
            steps.append(step(draw.choice(["add", "mul", "sub"]), *pair))
        else:
            steps.append(step("expand", first))
        steps[-1]["as"] = name
        names.append(name)
    total = "x"
    unused = [each for each in [*constants, *names] if all(each not in one["args"] for one in steps)]
    for index, name in enumerate(dict.fromkeys(each for each in unused if each != "x")):
        steps.append(step("add", total, name, **{"as": f"t{index}"}))
        total = f"t{index}"
    return graph(*steps, **constants)


def test_shards_apart_equal_the_whole() -> None:
    local = apart = refused = 0
    for seed in range(COUNT):
        made, x = drawn(seed), torch.randn(SHAPE)
        try:
            whole = run_checked(made, x)
        except PatchbayError:
            refused += 1  # such as a fill beyond a dim of size 1
            continue
        for dim in (-1, -2):
            if not made.is_local(dim):
                continue
            parts = [run_checked(made, part, Shard(dim, rank, 2)) for rank, part in enumerate(x.chunk(2, dim))]
            torch.testing.assert_close(torch.cat(parts, dim), whole, rtol=1e-6, atol=1e-6, equal_nan=True)
            local += 1
        apart += not made.is_local(-1)
    assert min(local, apart) > 50, "both kinds came up"
    assert refused < COUNT / 2
