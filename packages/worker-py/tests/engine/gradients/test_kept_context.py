"""The form of `save_ctx` in a checkpoint: it comes back exactly, or there is none. In this process: no sandbox."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
import torch

from patchbay_worker.sandbox.job.save_ctx import Keeper, SaveContext, Unkeepable, put_back


def context(**values: Any) -> SaveContext:
    made = SaveContext()
    made.__dict__.update(values)
    return made


def kept(original: SaveContext) -> SaveContext:
    """By way of names and tensors alone."""
    saved = {name: value.clone() for name, value in Keeper(original, {}).tensors.items()}
    result = context(stale=1)
    put_back(result, saved)
    return result


def test_values_come_back_as_they_were() -> None:
    plain = {
        "none": None,
        "true": True,
        "large": 2**80,
        "text": "ä\ud800",
        "floats": [0.1, -0.0, math.inf, 1e-310],
        "complex": 1 - 2j,
        3: (1, [2, {"x"}]),
        (1, 2): {"tuple": "key"},
        "dtype": torch.bfloat16,
        "size": torch.Size([2, 3]),
    }
    inner = kept(context(plain=plain, inner=context(a=1))).__dict__
    assert list(inner) == ["plain", "inner"]
    assert inner["plain"] == plain
    assert list(inner["plain"]) == list(plain)
    assert math.copysign(1, inner["plain"]["floats"][1]) == -1
    assert type(inner["plain"]["size"]) is torch.Size
    assert inner["inner"].a == 1
    assert math.isnan(kept(context(nan=math.nan)).nan)


def test_tensors_and_arrays_come_back_as_they_were() -> None:
    turned = torch.randn(3, 4).T
    leaf = torch.randn(2, requires_grad=True)
    found = kept(
        context(
            turned=turned,
            again=[turned],
            leaf=leaf,
            bits=torch.randn(2).bfloat16(),
            empty=torch.empty(0, 3),
            also_empty=torch.empty(0, 3),
            array=numpy.arange(6.0).reshape(2, 3),
            scalar=numpy.float32(0.1),
            seen=leaf * 2,
        )
    )
    assert torch.equal(found.turned, turned)
    assert found.turned.stride() == turned.stride()
    assert found.again[0] is found.turned
    assert (found.leaf.requires_grad, found.seen.requires_grad) == (True, False)
    assert (found.bits.dtype, tuple(found.empty.shape)) == (torch.bfloat16, (0, 3))
    assert numpy.array_equal(found.array, numpy.arange(6.0).reshape(2, 3))
    assert (type(found.scalar), found.scalar) == (numpy.float32, numpy.float32(0.1))


def loop() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


WHOLE = torch.randn(3, 3)
WEIGHT = torch.nn.Parameter(torch.randn(3))
UNKEEPABLE: list[tuple[Any, str]] = [
    (print, "is of type"),
    (WEIGHT, "is of type Parameter"),
    (loop(), "in two places"),
    ([WHOLE, WHOLE[0]], r"x\[1\] is in two places"),
    (WEIGHT.data, "in two places"),
    (WEIGHT.sum() + 1, "save a detached copy"),
    (WHOLE.to("meta"), "on meta"),
    (numpy.array(["a"]), "array of"),
    (numpy.arange(4)[::2], "a part of an array"),
]


@pytest.mark.parametrize(("value", "reason"), UNKEEPABLE)
def test_what_would_not_come_back_is_named(value: Any, reason: str) -> None:
    with pytest.raises(Unkeepable, match=reason):
        Keeper(context(x=value), {"a.weight": WEIGHT})
