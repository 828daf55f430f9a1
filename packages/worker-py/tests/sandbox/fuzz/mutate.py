"""Makes new inputs from old ones, by a seed: bytes changed, cut and put together, numbers and JSON made extreme."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence
from typing import Final

NUMBERS: Final = [0, 1, 7, 8, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1]
JSON: Final = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"1.5",
    b"NaN",
    b'""',
    b'"\\ud800"',
    b'"\\u0000\\u001b[2J"',
    b"[]",
    b"{}",
    b"9" * 400,
    b"[" * 300 + b"]" * 300,
    str(2**63).encode(),
]
VALUE: Final = re.compile(rb'-?\d+|"(?:[^"\\]|\\.)*"|true|false|null|\[\]|\{\}')
LONGEST: Final = 1 << 16


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A few changes, one after another."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        data = rng.choice(CHANGES)(data, others, rng)
    return data[:LONGEST]


def _flip(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _number(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    size, value = rng.choice((1, 2, 4, 8)), rng.choice(NUMBERS) * rng.choice((1, 1, 1, -1))
    at = rng.randrange(max(1, len(data) - size + 1))
    packed = struct.pack("<Q", value % 2**64)[:size]
    return data[:at] + packed + data[at + size :]


def _cut(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:end], data[:start] + data[end:], data[start:]))


def _repeat(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * rng.choice((1, 2, 30)) + data[end:]


def _splice(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _json(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    places = list(VALUE.finditer(data))
    if not places:
        return data
    place = rng.choice(places)
    return data[: place.start()] + rng.choice(JSON) + data[place.end() :]


CHANGES: Final = (_flip, _number, _cut, _repeat, _splice, _json, _json)
