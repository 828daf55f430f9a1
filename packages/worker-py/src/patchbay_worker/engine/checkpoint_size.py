"""How large a checkpoint is, from the headers of its safetensors files alone: names, dtypes and shapes, no weights.
Imports no torch, so that the supervisor can ask before any rank runs. Not here: what one rank holds (`memory.py`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Of stored dtypes; floating ones are converted to the deployment's dtype when they are loaded.
_STORED_BYTES: Final = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
_FLOATS: Final = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_HEADER_LIMIT: Final = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint as its header tells it."""

    dtype: str
    shape: tuple[int, ...]

    def bytes_as(self, dtype: str) -> int:
        """Its size when it is loaded for a deployment of this dtype."""
        item = _ITEM_BYTES[dtype] if self.dtype in _FLOATS else _STORED_BYTES.get(self.dtype, 8)
        return math.prod(self.shape) * item


def stored_tensors(model: str) -> dict[str, StoredTensor] | None:
    """By name; None where nothing is on this node, or not as safetensors: then nothing is known before the load."""
    folder = _folder(model)
    if folder is None:
        return None
    found: dict[str, StoredTensor] = {}
    for file in _files(folder):
        for name, entry in _header(file).items():
            if name != "__metadata__":
                found[name] = StoredTensor(str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
    return found or None


def total_bytes(tensors: dict[str, StoredTensor], dtype: str) -> int:
    return sum(tensor.bytes_as(dtype) for tensor in tensors.values())


def _folder(model: str) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, local_files_only=True))
    except Exception:  # not a hub name, or not downloaded yet: both mean that there is nothing to read
        return None


def _files(folder: Path) -> list[Path]:
    """Those of the index where there is one: a folder may hold other copies of the weights as well."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(names) if (folder / name).is_file()]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    """A file that is broken is told of by the load itself."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= _HEADER_LIMIT:
            return {}
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(stream.read(length))
        except ValueError:
            return {}
    return header
