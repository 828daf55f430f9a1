"""Levels of the sandbox and the layers that each is made of. Not here: how a layer works, which one a machine has.

`without` and `rules_off` exist for the tests, which take single layers and rules away and see that an attack works.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Level = Literal["isolated", "confined", "filtered", "trusted"]
Layer = Literal["uid", "namespaces", "root", "landlock", "seccomp", "privileges", "limits"]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""From the strongest to none."""
LAYERS: Final[dict[Level, frozenset[Layer]]] = {
    "isolated": frozenset(get_args(Layer)),
    "confined": frozenset(("uid", "landlock", "seccomp", "privileges", "limits")),
    "filtered": frozenset(("uid", "seccomp", "privileges", "limits")),
    "trusted": frozenset(("limits",)),
}


class LayerFailed(Exception):
    """A layer that this machine refuses; `layer` is its name, `reason` in plain words."""

    def __init__(self, layer: Layer, reason: str) -> None:
        super().__init__(f"{layer}: {reason}")
        self.layer = layer
        self.reason = reason


@dataclass(frozen=True)
class Plan:
    """What a zygote and its jobs do to themselves."""

    level: Level = "isolated"
    without: frozenset[Layer] = frozenset()
    rules_off: frozenset[str] = frozenset()
    """Names of system calls whose rule is taken out: nothing of them is checked any more."""

    def has(self, layer: Layer) -> bool:
        return layer in LAYERS[self.level] and layer not in self.without

    @property
    def sees_files(self) -> bool:
        """Whether a job may open and look at the files that its level leaves."""
        return self.level != "filtered"

    def to_json(self) -> str:
        return json.dumps({"level": self.level, "without": sorted(self.without), "rules_off": sorted(self.rules_off)})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        value: dict[str, Any] = json.loads(text)
        return cls(value["level"], frozenset(value["without"]), frozenset(value["rules_off"]))


def at_least(level: Level, minimum: Level) -> bool:
    return LEVELS.index(level) <= LEVELS.index(minimum)
