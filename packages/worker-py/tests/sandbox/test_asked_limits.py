"""What a document may ask for: within the operator's maximum, and every breach is told by its own code."""

from __future__ import annotations

import pytest
import torch

from patchbay_worker.contract import parse_document
from patchbay_worker.contract.schema import job_schema
from patchbay_worker.sandbox import job_process
from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.limits import FIELDS, SandboxLimits, limits_of
from patchbay_worker.sandbox.pool import SandboxPool

from .support import FACTS, edit, refused, run

FULL = dict.fromkeys(FIELDS, 1000)


def test_what_a_document_asks_for_is_what_it_gets() -> None:
    assert limits_of(FULL, {}) == SandboxLimits(
        edit_timeout_s=1,
        init_timeout_s=1,
        job_timeout_s=1,
        memory_bytes=1000,
        log_bytes=1000,
        edit_calls=1000,
        save_ctx_tensors=1000,
        save_ctx_bytes=1000,
        live_graphs=1000,
    )
    assert limits_of({}, {}) == SandboxLimits()


@pytest.mark.parametrize("key", FIELDS)
def test_more_than_the_operator_allows_is_refused(key: str) -> None:
    assert limits_of(FULL, {key: 1000}) == limits_of(FULL, {})
    problem = refused("PB_LIMIT_EXCEEDED", lambda: limits_of(FULL, {key: 999}))
    assert problem.path == f"limits.{key}"
    assert key in problem.message
    assert "999" in problem.message
    assert "operator" in (problem.hint or "")


@pytest.mark.parametrize("key", FIELDS)
def test_a_default_above_the_maximum_becomes_it(key: str) -> None:
    found = getattr(limits_of({}, {key: 7}), FIELDS[key])
    assert found == (0.007 if key.endswith("Ms") else 7)


@pytest.mark.parametrize("key", FIELDS)
def test_a_limit_that_is_asked_for_is_never_lowered_also_when_it_is_the_default(key: str) -> None:
    default = getattr(SandboxLimits, FIELDS[key])
    asked = {key: round(default * 1e3) if key.endswith("Ms") else default}
    assert getattr(limits_of(asked, {}), FIELDS[key]) == default
    refused("PB_LIMIT_EXCEEDED", lambda: limits_of(asked, {key: asked[key] - 1}))


def test_the_defaults_are_those_of_the_contract() -> None:
    properties = job_schema()["properties"]["limits"]["properties"]
    assert [key for key, value in properties.items() if "default" in value] == [], "else none could be seen as absent"
    assert parse_document({"version": 1, "model": "m", "runs": [{"inputs": {"text": ["a"]}}]})["limits"] == {}
    assert set(FIELDS) == set(properties) - {"startTimeoutMs"}


HOARD = "save_ctx.x = [torch.ones(1000) for _ in range(10)]\nreturn inputs"
BREACHES: dict[str, tuple[SandboxLimits, str, str, str, int | None]] = {
    # limits, body, code, what the message says, line
    "editTimeoutMs": (SandboxLimits(edit_timeout_s=0.3), "while True: pass", "PB_EDIT_TIMEOUT", "0.3 s", 2),
    "timeoutMs": (SandboxLimits(job_timeout_s=0.4), "while True: pass", "PB_EDIT_TIMEOUT", "0.4 s", 2),
    "editMemoryBytes": (
        SandboxLimits(memory_bytes=64 << 20),
        "x = 1\nbytearray(1 << 30)",
        "PB_EDIT_MEMORY",
        str(64 << 20),
        3,
    ),
}


@pytest.mark.parametrize("key", BREACHES)
def test_a_breach_has_its_own_code(pool: SandboxPool, key: str) -> None:
    limits, body, code, says, line = BREACHES[key]
    with pool.acquire(limits) as job:
        job.init(seed=0, sources=[EditSource("hook", edit(body))])
        problem = refused(code, lambda: run(job))
        assert says in problem.message
        assert (problem.remote or {}).get("line") == line
        assert job.logs() == ""


def begun(pool: SandboxPool, limits: SandboxLimits, body: str) -> SandboxJob:
    job = pool.acquire(limits)
    job.init(seed=0, sources=[EditSource("hook", edit(body))])
    return job


def test_modules_and_sources_have_their_own_time(pool: SandboxPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "WHERE_S", 10.0)  # a busy machine takes its time
    module = ModuleSpec("slow", "python", {"source": "def build():\n    while True: pass"})
    with pool.acquire(SandboxLimits(init_timeout_s=1.0)) as job:
        problem = refused("PB_EDIT_TIMEOUT", lambda: job.init(seed=0, modules=[module]))
        assert "1 s" in problem.message
        assert (problem.remote or {}).get("line") == 2


def test_calls_are_counted(pool: SandboxPool) -> None:
    with begun(pool, SandboxLimits(edit_calls=3), "return inputs") as job:
        for _ in range(3):
            run(job)
        assert "limit of 3" in refused("PB_LIMIT_EXCEEDED", lambda: run(job)).message


def test_graphs_are_counted_until_they_are_forgotten(pool: SandboxPool) -> None:
    with begun(pool, SandboxLimits(live_graphs=2), "return inputs * 2") as job:

        def differentiable(number: int) -> None:
            job.edit(source=0, tensor=torch.ones(2), current_module=FACTS, graph=number)

        for number in range(2):
            differentiable(number)
        assert "limit of 2" in refused("PB_LIMIT_EXCEEDED", lambda: differentiable(2)).message
        run(job, torch.ones(2))  # one without a graph is none of them
        job.release()
        differentiable(3)
        assert job.backward(source=0, gradient=torch.ones(2), graph=3, shape=(2,)).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("limits", "kept"), [(SandboxLimits(save_ctx_tensors=4), 4), (SandboxLimits(save_ctx_bytes=20_000), 5)]
)
def test_what_does_not_fit_is_named_and_left_out(pool: SandboxPool, limits: SandboxLimits, kept: int) -> None:
    with begun(pool, limits, HOARD) as job:
        run(job)
        found = job.collect()
    assert len(found.tensors) == kept
    assert len([value for value in found.save_ctx["x"] if "missing" in value]) == 10 - kept
    assert found.warnings


def test_prints_beyond_the_limit_are_cut_and_say_so(pool: SandboxPool) -> None:
    with begun(pool, SandboxLimits(log_bytes=100), "print('x' * 1000)\nreturn inputs") as job:
        assert torch.equal(run(job, torch.ones(1)), torch.ones(1))
        assert len(job.logs()) <= 100 + len("\n[log cut here]\n")
        assert "cut" in job.logs()
