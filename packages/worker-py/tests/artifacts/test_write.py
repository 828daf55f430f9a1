"""Files we write are read back by safetensors' own reader, bit for bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from patchbay_worker.artifacts.write import _NAMES, write_safetensors


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("dtype", list(_NAMES), ids=str)
def test_every_dtype_comes_back(dtype: torch.dtype) -> None:
    raw = torch.arange(48, dtype=torch.uint8)
    given = (raw % 2).to(torch.bool) if dtype == torch.bool else raw.view(dtype)
    found = load(write_safetensors({"x": given}))["x"]
    assert found.dtype == dtype
    assert torch.equal(bits(found), bits(given))


def test_any_layout_comes_back() -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    given = {
        "transposed": base.t(),
        "strided": base[:, ::2],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "shared": base[1:3],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "grad": torch.ones(2, requires_grad=True),
        "conj": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
        "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "ünicode/näme": torch.ones(1),
    }
    found = load(write_safetensors(given))
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor.detach()), name


def test_no_tensors_are_a_valid_file() -> None:
    assert load(write_safetensors({})) == {}


def test_an_unknown_dtype_is_refused_with_its_name() -> None:
    with pytest.raises(TypeError, match="'x'"):
        write_safetensors({"x": torch.zeros(1, dtype=torch.complex128)})
