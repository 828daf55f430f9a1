"""Codes of the tensor types on the sandbox wire. Not here: their names in documents (packages/protocol, tensor.ts)."""

from __future__ import annotations

from typing import Final

import torch

# Position = code. Both sides come from one installation, so the order may change between versions.
DTYPES: Final[tuple[torch.dtype, ...]] = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e8m0fnu,
)
CODE: Final[dict[torch.dtype, int]] = {dtype: code for code, dtype in enumerate(DTYPES)}
ITEM_BYTES: Final[tuple[int, ...]] = tuple(torch.empty(0, dtype=dtype).element_size() for dtype in DTYPES)
BY_NAME: Final[dict[str, torch.dtype]] = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


def name_of(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")
