"""Module name patterns: `*` and `[..]` match inside one path segment, a segment `**` matches any number of segments."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache


def matching(glob: str, names: Sequence[str]) -> list[str]:
    """Names that match, in their own order."""
    if not any(sign in glob for sign in "*?["):
        return [glob] if glob in names else []
    return list(_matching(glob, tuple(names)))


@lru_cache(maxsize=256)
def _matching(glob: str, names: tuple[str, ...]) -> tuple[str, ...]:
    pattern = glob.split(".")
    return tuple(name for name in names if _fits(pattern, name.split(".")))


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(pattern[1:], path[1:])
