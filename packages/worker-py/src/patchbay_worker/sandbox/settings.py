"""What the operator of a node decides about its sandbox, read from `PATCHBAY_SANDBOX_*`. Not here: limits of a job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from patchbay_worker.errors import error
from patchbay_worker.sandbox.lockdown.plan import LEVELS, Level, Plan

MINIMUM: Final = "PATCHBAY_SANDBOX_MINIMUM"
LEVEL: Final = "PATCHBAY_SANDBOX_LEVEL"


@dataclass(frozen=True)
class SandboxSettings:
    minimum: Level = "confined"
    """Python edits are refused below it. `trusted` means that edits may run with the worker's rights."""
    level: Level | None = None
    """This level and no other, instead of the best that the machine reaches."""
    plan: Plan | None = None
    """For tests: exactly this plan, without a self-test."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> SandboxSettings:
        level = _level(environment, LEVEL)
        return cls(minimum=_level(environment, MINIMUM) or "confined", level=level)

    @property
    def candidates(self) -> tuple[Level, ...]:
        """Levels to try, in this order."""
        if self.level is not None:
            return (self.level,)
        return LEVELS if self.minimum == "trusted" else LEVELS[:-1]


def _level(environment: Mapping[str, str], name: str) -> Level | None:
    value = environment.get(name, "")
    if value in ("", "auto"):
        return None
    if value not in LEVELS:
        raise error("PB_CONFIG_INVALID", reason=f"{name} is {value!r}, it must be one of {', '.join(LEVELS)}")
    return LEVELS[LEVELS.index(value)]
