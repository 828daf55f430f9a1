"""The inputs that fuzzing starts from: files of `corpus/<target>/`, and honest ones made here. What once broke a target
is kept there for good; `npm run fuzz` writes it, named by its hash.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import torch

from patchbay_worker.frames import Frame
from patchbay_worker.sandbox.wire.layout import IN_OFFSET
from patchbay_worker.sandbox.wire.message import Kind, TensorRecord, encode

FOLDER: Final = Path(__file__).with_name("corpus")
ENTRY: Final = {"section": "save_ctx", "name": "x", "dtype": "float32", "shape": [2, 3]}
TEXTS: Final = {"type": "ValueError", "text": "no", "traceback": "Traceback", "line": 3}


def _manifest(*entries: dict[str, Any], **values: Any) -> bytes:
    return json.dumps({"tensors": entries, "warnings": ["w"], "values": values}).encode()


HONEST: Final[dict[str, list[bytes]]] = {
    "wire": [
        encode(Kind.OK, 1),
        encode(Kind.OK, 2**64 - 1, (), {"bytes": 100}),
        encode(Kind.TENSOR, 7, (TensorRecord(torch.float32, (1, 3, 4), IN_OFFSET),)),
        encode(Kind.TENSOR, 7, (TensorRecord(torch.bool, (), IN_OFFSET + 64),)),
        encode(Kind.TENSOR, 7, (TensorRecord(torch.float64, (0, 5), IN_OFFSET),) * 16),
        encode(Kind.ERROR, 7, (), {"kind": "failed", **TEXTS}),
    ],
    "report": [
        json.dumps({"kind": kind, **TEXTS, "expected": [1, 2], "actual": [3], "entry": "e", "signature": "s"}).encode()
        for kind in ("failed", "blocked", "memory", "shape", "returned", "syntax", "entry", "signature")
    ]
    + [json.dumps({"kind": "dtype", "expected": "float32", "actual": "int64"}).encode()],
    "manifest": [
        _manifest(),
        _manifest(ENTRY, x={"tensor": "x"}, n=1, s="text", deep=[[[{"a": None}]]]),
        _manifest(ENTRY, ENTRY | {"section": "modules", "name": "a.weight", "dtype": "bool", "shape": []}),
        _manifest(ENTRY | {"shape": [0, 9]}, ENTRY | {"section": "checkpoint", "name": "rng.torch", "dtype": "uint8"}),
    ],
    "frames": [
        Frame("ping").encode(),
        Frame("hello", {"token": "t", "rank": 0}).encode(),
        Frame("execute", {"job": "j"}, b"body" * 50).encode() + Frame("ping").encode(),
    ],
}


def inputs_of(target: str) -> list[bytes]:
    files = sorted((FOLDER / target).glob("*.bin"))
    return HONEST[target] + [file.read_bytes() for file in files]


def keep(target: str, data: bytes) -> Path:
    file = FOLDER / target / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file
