"""Tensors -> the bytes of a safetensors file, without copying contiguous CPU tensors until they are joined.
Not here: reading (safetensors' own reader does that), where the bytes go (`transfer.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file.

    Args:
        tensors: by key; of any shape, strides and device, and of a dtype that safetensors knows. They may share memory.

    Returns:
        Header and data, aligned to the size of the elements.

    Raises:
        TypeError: safetensors has no such dtype (complex128, quantized ones).
    """
    # Wide elements first keeps every tensor aligned to its element size, which readers rely on.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    parts: list[bytes | memoryview] = []
    offset = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise TypeError(f"safetensors has no dtype {tensor.dtype} (tensor {name!r})")
        data = _bytes_of(tensor)
        end = offset + data.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        parts.append(data)
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _bytes_of(tensor: Tensor) -> memoryview:
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data
