"""What goes into an edit and comes out: every dtype, every layout, nothing shared between calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from patchbay_worker.sandbox.limits import SandboxLimits
from patchbay_worker.sandbox.wire.dtypes import DTYPES

from .conftest import StartJob
from .support import edit, refused, run

IDENTITY = edit("return inputs")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_passes_unchanged(start: StartJob, dtype: torch.dtype) -> None:
    raw = torch.randint(0, 2, (4, 8 * dtype.itemsize), dtype=torch.uint8)
    tensor = raw.view(dtype)
    got = run(start(IDENTITY), tensor)
    assert got.dtype == dtype
    assert got.shape == tensor.shape
    assert torch.equal(got.view(torch.uint8), raw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_an_edit_computes_what_torch_computes_here(start: StartJob, dtype: torch.dtype) -> None:
    tensor = torch.randn(7, 33).to(dtype)
    got = run(start(edit("return inputs @ inputs.T.contiguous() @ inputs + 1")), tensor)
    assert torch.equal(got, tensor @ tensor.T.contiguous() @ tensor + 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("inputs.mul_(2)\nreturn inputs", lambda x: x * 2),
        ("inputs[0] = 7\nreturn inputs", lambda x: torch.cat([torch.full_like(x[:1], 7), x[1:]])),
        ("return inputs.T", lambda x: x.T),
        ("return inputs.flip(0)[:]", lambda x: x.flip(0)),
        ("return inputs[:1].expand(6, 6)", lambda x: x[:1].expand(6, 6)),
        ("return inputs[0, 0].expand(6, 6)", lambda x: x[0, 0].expand(6, 6)),
        ("return inputs.clone().requires_grad_()", lambda x: x),
        ("return torch.nn.Parameter(inputs + 1)", lambda x: x + 1),
        ("return inputs.view(36)[:].view(6, 6)", lambda x: x),
        ("return inputs * float('nan')", lambda x: x * float("nan")),
        ("return (inputs / 0)", lambda x: x / 0),
        ("return torch.from_numpy(np.asarray(inputs) * 2)", lambda x: x * 2),
    ],
)
def test_results_of_every_layout(start: StartJob, body: str, expected: object) -> None:
    tensor = torch.arange(36.0).view(6, 6)
    before = tensor.clone()
    got = run(start(edit(body)), tensor)
    assert callable(expected)
    assert torch.equal(got.nan_to_num(-1), expected(before).nan_to_num(-1))
    assert got.is_contiguous()
    assert not got.requires_grad
    assert torch.equal(tensor, before), "an edit changed the worker's tensor"


def test_a_lazily_conjugated_result_is_resolved(start: StartJob) -> None:
    tensor = torch.randn(4, dtype=torch.complex64)
    assert torch.equal(run(start(edit("return inputs.conj()")), tensor), tensor.conj().resolve_conj())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.zeros(0),
        torch.zeros(2, 0, 3),
        torch.randn(8, 8).T,
        torch.randn(1, 5).expand(4, 5),
        torch.randn(3, 3, requires_grad=True),
        torch.zeros(1, 1, 1, 1, 1, 1, 1, 2),
    ],
    ids=["scalar", "empty", "empty-3d", "transposed", "expanded", "requires-grad", "8-dims"],
)
def test_inputs_of_every_layout(start: StartJob, tensor: torch.Tensor) -> None:
    got = run(start(edit("return inputs + 1")), tensor)
    assert torch.equal(got, tensor.detach() + 1)
    assert got.shape == tensor.shape


@pytest.mark.parametrize(
    "keep",
    [
        "save_ctx.kept.append(inputs)",
        "save_ctx.kept.append(inputs[1:])",
        "save_ctx.kept.append(inputs.numpy())",
        "globals().setdefault('hidden', []).append(inputs.T)\nsave_ctx.kept = hidden",
    ],
    ids=["whole", "view", "numpy", "global"],
)
@pytest.mark.parametrize("back", ["inputs", "inputs * 10", "inputs[[1, 0]]", "inputs.flip(0)[:, :1].expand(2, 3)"])
def test_an_input_that_the_edit_keeps_is_not_overwritten(start: StartJob, keep: str, back: str) -> None:
    # The input is shared memory, where also the next input and a result go: without the care of JobArena all three
    # would show the last call, or what it gave back.
    job = start(edit(f"save_ctx.setdefault('kept', [])\n{keep}\nreturn {back}"))
    sent = [torch.full((2, 3), float(i)) for i in range(3)]
    for tensor in sent:
        assert torch.equal(run(job, tensor), tensor * (10 if "10" in back else 1))
    kept = job.collect().tensors
    assert [kept[f"kept.{i}"].flatten()[0].item() for i in range(3)] == [0, 1, 2]


def test_keeping_the_last_input_of_many_calls_takes_no_more_memory(start: StartJob) -> None:
    limits = SandboxLimits(memory_bytes=256 << 20)
    job = start(edit("save_ctx.last = inputs\nreturn inputs"), limits=limits)
    for i in range(200):  # 800 MB in all
        run(job, torch.full((1 << 20,), float(i)))
    assert job.collect().tensors["last"][0] == 199


@pytest.mark.parametrize(
    "back",
    ["inputs.T", "inputs.flip(0)", "inputs.mul_(2).T", "inputs.T.contiguous()", "inputs[:, [2, 0, 1]]"],
)
def test_a_result_that_is_made_of_its_input_is_whole(start: StartJob, back: str) -> None:
    """Also where both lie at one place in the arena."""
    job = start(edit(f"return {back}"))
    for _ in range(3):
        sent = torch.randn(3, 3)
        here: dict[str, torch.Tensor] = {"inputs": sent.clone()}
        assert torch.equal(run(job, sent), eval(back, {"torch": torch}, here))


def test_results_are_private_copies(start: StartJob) -> None:
    job = start(edit("return inputs * 2"))
    first = run(job, torch.ones(4))
    second = run(job, torch.full((4,), 5.0))
    assert torch.equal(first, torch.full((4,), 2.0))
    assert torch.equal(second, torch.full((4,), 10.0))


def test_a_bool_result_holds_only_zero_and_one(start: StartJob) -> None:
    job = start(edit("inputs.view(torch.uint8).fill_(7)\nreturn inputs"))
    got = run(job, torch.zeros(16, dtype=torch.bool))
    assert torch.equal(got.view(torch.uint8), torch.ones(16, dtype=torch.uint8))


def test_a_tensor_over_the_default_arena_fits_after_ensure_capacity(start: StartJob) -> None:
    limits = SandboxLimits(arena_bytes=4 << 20)
    tensor = torch.randn(3 << 20)  # 12 MB
    job = start(edit("return inputs * 2"), limits=limits, capacity=tensor.nbytes)
    assert torch.equal(run(job, tensor), tensor * 2)


def test_a_tensor_over_the_arena_is_refused_and_the_job_goes_on(start: StartJob) -> None:
    job = start(IDENTITY, limits=SandboxLimits(arena_bytes=4 << 20))
    refused("PB_LIMIT_EXCEEDED", lambda: run(job, torch.zeros(1 << 20)))
    assert torch.equal(run(job, torch.ones(4)), torch.ones(4))


def test_capacity_beyond_the_limit_is_refused(start: StartJob) -> None:
    limits = SandboxLimits(arena_bytes=4 << 20, max_arena_bytes=8 << 20)
    refused("PB_LIMIT_EXCEEDED", lambda: start(IDENTITY, limits=limits, capacity=8 << 20))


def test_facts_too_long_for_a_message_go_through_the_arena(start: StartJob) -> None:
    job = start(edit("return inputs + len(current_module.batch.token_ids[0])"))
    facts = {"batch": {"token_ids": [list(range(100_000))]}}
    got = job.edit(source=0, tensor=torch.zeros(3), current_module=facts)
    assert torch.equal(got, torch.full((3,), 100_000.0))


def test_every_edit_has_the_batch_of_its_call_whether_or_not_it_was_sent_again(start: StartJob) -> None:
    look = "save_ctx.seen = [*getattr(save_ctx, 'seen', []), repr(current_module)[-60:]]\n"
    change = "current_module.batch.rows.append(9)\nreturn inputs * sum(current_module.batch.rows)"
    job = start(edit(look + change), limits=SandboxLimits(arena_bytes=4 << 20))
    one, two = {"batch": {"rows": [1]}}, {"batch": {"rows": [2]}}

    def factor(facts: dict[str, Any]) -> float:
        return float(job.edit(source=0, tensor=torch.ones(1), current_module=facts))

    assert [factor(facts) for facts in (one, one, two, one)] == [10, 10, 11, 10], "what an edit changed is its own"
    refused("PB_LIMIT_EXCEEDED", lambda: job.edit(source=0, tensor=torch.zeros(1 << 20), current_module=two))
    assert [factor(facts) for facts in (two, one)] == [11, 10], "also after a call that never came to the job"
    refused("PB_EDIT_FAILED", lambda: job.edit(source=0, tensor=torch.ones(1), current_module={}))
    assert factor(one) == 10
    assert job.collect().save_ctx["seen"][2].endswith("batch=CurrentModule(rows=[2]))")
