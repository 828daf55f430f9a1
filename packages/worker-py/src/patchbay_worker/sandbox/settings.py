"""What the operator of a node decides about its sandbox, read from `PATCHBAY_SANDBOX_*`. Not here: limits of a job."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from patchbay_worker.errors import error
from patchbay_worker.sandbox.limits import FIELDS
from patchbay_worker.sandbox.lockdown.plan import LEVELS, Level, Plan

MINIMUM: Final = "PATCHBAY_SANDBOX_MINIMUM"
LEVEL: Final = "PATCHBAY_SANDBOX_LEVEL"
CGROUP: Final = "PATCHBAY_SANDBOX_CGROUP"
MAXIMUM: Final = "PATCHBAY_SANDBOX_MAX_"
"""With the name of a limit: `PATCHBAY_SANDBOX_MAX_EDIT_MEMORY_BYTES` is the most that `editMemoryBytes` may be."""


@dataclass(frozen=True)
class SandboxSettings:
    minimum: Level = "confined"
    """Python edits are refused below it. `trusted` means that edits may run with the worker's rights."""
    level: Level | None = None
    """This level and no other, instead of the best that the machine reaches."""
    maxima: Mapping[str, int] = field(default_factory=dict)
    """Key of a document's `limits` -> the most that it may ask for."""
    cgroup: str = ""
    """Folder of a cgroup (version 2) below which jobs get theirs; `off`, or "" for what the worker finds."""
    plan: Plan | None = None
    """For tests: exactly this plan, without a self-test."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> SandboxSettings:
        level = _level(environment, LEVEL)
        maxima = {key: most for key in FIELDS if (most := _maximum(environment, key)) is not None}
        minimum = _level(environment, MINIMUM) or "confined"
        return cls(minimum=minimum, level=level, maxima=maxima, cgroup=environment.get(CGROUP, ""))

    @property
    def candidates(self) -> tuple[Level, ...]:
        """Levels to try, in this order."""
        if self.level is not None:
            return (self.level,)
        return LEVELS if self.minimum == "trusted" else LEVELS[:-1]


def _maximum(environment: Mapping[str, str], key: str) -> int | None:
    name = MAXIMUM + re.sub("[A-Z]", r"_\g<0>", key).upper()
    value = environment.get(name, "")
    if value == "":
        return None
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise error("PB_CONFIG_INVALID", reason=f"{name} is {value!r}, it must be a whole number above 0")
    return int(value)


def _level(environment: Mapping[str, str], name: str) -> Level | None:
    value = environment.get(name, "")
    if value in ("", "auto"):
        return None
    if value not in LEVELS:
        raise error("PB_CONFIG_INVALID", reason=f"{name} is {value!r}, it must be one of {', '.join(LEVELS)}")
    return LEVELS[LEVELS.index(value)]
