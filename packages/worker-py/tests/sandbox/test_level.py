"""The level: chosen by attacks, never lower in silence, and below the operator's minimum no edit runs."""

from __future__ import annotations

import pytest

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.level.probes import self_test
from patchbay_worker.sandbox.lockdown.plan import Plan
from patchbay_worker.sandbox.pool import SandboxPool
from patchbay_worker.sandbox.settings import SandboxSettings
from patchbay_worker.sandbox.zygote_process import ZygoteProcess

from .support import refused


def test_below_the_minimum_edits_are_refused_with_reason_and_fix() -> None:
    with SandboxPool(size=1, settings=SandboxSettings(minimum="isolated", level="confined")) as pool:
        problem = refused("PB_SANDBOX_LEVEL", pool.acquire)
        assert "need the sandbox level isolated, this worker reaches confined" in problem.message
        assert problem.hint
        assert not problem.retryable
        assert pool.level == "confined"


@pytest.mark.parametrize(
    ("call", "probe"), [("socket", "open a socket"), ("unshare", "end a process for a forbidden call")]
)
def test_the_self_test_sees_a_weakened_filter(call: str, probe: str) -> None:
    zygote = ZygoteProcess(Plan("confined", rules_off=frozenset((call,))))
    try:
        zygote.wait_ready()
        failed = {each.name for each in self_test(zygote, "confined") if not each.ok}
    finally:
        zygote.close()
    assert probe in failed


def test_trusted_is_never_chosen_unless_named() -> None:
    assert "trusted" not in SandboxSettings().candidates
    assert SandboxSettings(minimum="trusted").candidates[-1] == "trusted"
    environment = {"PATCHBAY_SANDBOX_MINIMUM": "isolated", "PATCHBAY_SANDBOX_LEVEL": "auto"}
    assert SandboxSettings.from_environment(environment) == SandboxSettings(minimum="isolated")
    with pytest.raises(PatchbayError, match="PB_CONFIG_INVALID"):
        SandboxSettings.from_environment({"PATCHBAY_SANDBOX_MINIMUM": "safe"})


def test_maxima_come_from_the_environment() -> None:
    environment = {"PATCHBAY_SANDBOX_MAX_EDIT_MEMORY_BYTES": "1000", "PATCHBAY_SANDBOX_MAX_SAVE_CTX_TENSORS": "3"}
    found = SandboxSettings.from_environment(environment)
    assert found.maxima == {"editMemoryBytes": 1000, "saveCtxTensors": 3}
    for wrong in ("0", "-1", "much", "1.5"):
        with pytest.raises(PatchbayError, match="PB_CONFIG_INVALID"):
            SandboxSettings.from_environment({"PATCHBAY_SANDBOX_MAX_EDIT_CALLS": wrong})
