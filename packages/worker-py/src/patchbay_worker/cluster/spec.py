"""What a replica is to be, how it stands, and the name under which its supervisor is found. Plain data: no Ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

#: Part of every actor's name: detached actors outlive the code that made them.
PROTOCOL_VERSION: Final = "v1"
NAMESPACE: Final = "patchbay"
_PREFIX: Final = f"patchbay-{PROTOCOL_VERSION}:"


@dataclass(frozen=True)
class GangSpec:
    """One replica of a deployment."""

    deployment: str
    replica: int
    model: str
    dtype: str
    pp: int
    dp: int
    tp: int
    replicas: int
    device: str  # "cpu" | "cuda"
    fsdp: bool = False
    experts: bool = False

    @property
    def world_size(self) -> int:
        return self.pp * self.dp * self.tp

    @property
    def actor_name(self) -> str:
        return f"{_PREFIX}{self.deployment}:{self.replica}"

    @property
    def wanted(self) -> tuple[object, ...]:
        """What makes two deployments the same; the device is the cluster's choice."""
        return (self.model, self.dtype, self.pp, self.dp, self.tp, self.fsdp, self.experts, self.replicas)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> GangSpec:
        return cls(**value)


@dataclass
class ReplicaState:
    """Versioned, so that watchers can wait for a change.

    `state` is starting | ready | restarting | failed; `reason` is the JSON of a typed error.
    """

    spec: dict[str, Any]
    epoch: int
    state: str = "starting"
    version: int = 0
    address: str = ""
    token: str = ""
    reason: dict[str, Any] | None = None
    ranks: list[dict[str, Any]] = field(default_factory=list)
    #: ModelDescription, as JSON text; empty until the model was loaded once.
    description: str = ""
    phase: dict[str, Any] = field(default_factory=dict)

    def change(self, **changes: Any) -> None:
        for name, value in changes.items():
            if name not in vars(self):
                raise AttributeError(name)
            setattr(self, name, value)
        self.version += 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ReplicaState:
        return cls(**value)


def parse_actor_name(name: str) -> tuple[str, int] | None:
    """(deployment, replica) of a supervisor's name; None for anything else in the namespace."""
    if not name.startswith(_PREFIX):
        return None
    deployment, _, replica = name.removeprefix(_PREFIX).rpartition(":")
    return (deployment, int(replica)) if deployment and replica.isdigit() else None
