"""Names that look like a mistyped one, for hints. The same rule as packages/protocol/src/nearest.ts."""

from __future__ import annotations

from collections.abc import Sequence


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        following = [i]
        for j, right in enumerate(b, start=1):
            following.append(min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (left != right)))
        row = following
    return row[len(b)]


def nearest(name: str, known: Sequence[str], count: int = 3) -> list[str]:
    """Up to `count` known names within a third of their length in edits, nearest first."""
    measured = ((_distance(name.lower(), candidate.lower()), candidate) for candidate in known)
    close = [(edits, candidate) for edits, candidate in measured if edits <= max(2, -(-len(candidate) // 3))]
    return [candidate for _, candidate in sorted(close, key=lambda pair: pair[0])[:count]]
