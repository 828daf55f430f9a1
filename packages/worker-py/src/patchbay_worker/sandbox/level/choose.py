"""Finds the level: the strongest whose layers this machine gives and whose self-test holds. Never lower in silence.

Not here: keeping jobs ready (pool.py), the attacks (attacks.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from patchbay_worker.errors import PatchbayError, error
from patchbay_worker.sandbox.cgroup.folders import WorkerCgroup
from patchbay_worker.sandbox.cgroup.place import NoCgroup
from patchbay_worker.sandbox.level.fixes import NO_CGROUP, OTHER, fix_for
from patchbay_worker.sandbox.level.probes import Probe, self_test
from patchbay_worker.sandbox.lockdown.plan import LayerFailed, Level, Plan, at_least
from patchbay_worker.sandbox.settings import SandboxSettings
from patchbay_worker.sandbox.zygote_process import ZygoteProcess

CGROUP: Final = "cgroup"
"""Name of the probe that the CLI words by itself."""


@dataclass
class Choice:
    """`zygote` has passed the self-test and serves; None when python edits are refused."""

    level: Level
    probes: list[dict[str, Any]] = field(default_factory=list)
    zygote: ZygoteProcess | None = None
    refusal: PatchbayError | None = None

    @property
    def plan(self) -> Plan:
        return Plan(self.level)


def choose(settings: SandboxSettings, cgroup: WorkerCgroup | None = None) -> Choice:
    """Raises PB_SANDBOX_FAILED when no zygote starts at all, whatever the level."""
    failed: list[Probe] = []
    for level in settings.candidates:
        zygote = ZygoteProcess(Plan(level), cgroup)
        try:
            probes = _try(zygote, level)
        except BaseException:
            zygote.close()
            raise
        failed += [probe for probe in probes if not probe.ok]
        if any(not probe.ok for probe in probes):
            zygote.close()
        elif at_least(level, settings.minimum):
            return Choice(level, [probe.to_json() for probe in [*failed, *probes]], zygote)
        else:
            zygote.close()
            return _refused(level, settings, failed)
    return _refused("trusted", settings, failed)


def cgroup_of(settings: SandboxSettings) -> tuple[WorkerCgroup | None, dict[str, Any]]:
    """Where jobs get a cgroup each, and the probe that tells of it; no level asks for one."""
    try:
        return WorkerCgroup(settings.cgroup), Probe(CGROUP, True).to_json()
    except NoCgroup as problem:
        return None, Probe(CGROUP, False, str(problem), fix=NO_CGROUP).to_json()


def _try(zygote: ZygoteProcess, level: Level) -> list[Probe]:
    try:
        zygote.wait_ready()
    except LayerFailed as problem:
        return [Probe(problem.layer, False, problem.reason, level, fix_for(problem))]
    if level == "trusted":
        return []
    return self_test(zygote, level)


def _refused(level: Level, settings: SandboxSettings, failed: list[Probe]) -> Choice:
    why = "; ".join(f"{probe.name}: {probe.reason}" for probe in failed) or "the operator has chosen it"
    fixes = list(dict.fromkeys(probe.fix for probe in failed if probe.fix)) or [OTHER]
    refusal = error("PB_SANDBOX_LEVEL", minimum=settings.minimum, level=level, probes=why[:1500], hint=" ".join(fixes))
    return Choice(level, [probe.to_json() for probe in failed], refusal=refusal)
