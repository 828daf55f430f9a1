"""Gradients through the sandbox's process are those of the same function in this process, bit by bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.client import EditSource, ModuleSpec, SandboxJob
from patchbay_worker.sandbox.pool import SandboxPool

HEAD = "def edit(current_module, inputs, save_ctx, modules):\n"
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.nn.functional.gelu(inputs) * 2": lambda x: nn.functional.gelu(x) * 2,
    "inputs.softmax(-1) @ inputs.transpose(0, 1) @ inputs": lambda x: x.softmax(-1) @ x.transpose(0, 1) @ x,
    "torch.where(inputs > 0, inputs, 0.0)": lambda x: torch.where(x > 0, x, 0.0),
    "inputs": lambda x: x,
}


def start(pool: SandboxPool, *bodies: str, modules: tuple[ModuleSpec, ...] = ()) -> SandboxJob:
    job = pool.acquire()
    job.init(seed=1, modules=modules, sources=[EditSource(f"h{i}", HEAD + body) for i, body in enumerate(bodies)])
    return job


def edit(job: SandboxJob, value: Tensor, graph: int, source: int = 0) -> Tensor:
    return job.edit(source=source, tensor=value, current_module={}, graph=graph)


def back(job: SandboxJob, gradient: Tensor, graph: int, source: int = 0) -> Tensor:
    return job.backward(source=source, gradient=gradient, graph=graph, shape=tuple(gradient.shape))


@pytest.mark.parametrize("expression", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bit_equal_to_this_process(pool: SandboxPool, expression: str, dtype: torch.dtype) -> None:
    value, gradient = (torch.randn(7, 7, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (1, 2))
    with start(pool, f"    return {expression}") as job:
        got = edit(job, value, 1)
        pulled = back(job, gradient, 1)
    leaf = value.clone().requires_grad_()
    want = FUNCTIONS[expression](leaf)
    torch.autograd.backward(want, gradient)
    assert leaf.grad is not None
    assert torch.equal(got, want.detach())
    assert torch.equal(pulled, leaf.grad)
    assert pulled.abs().max() > 1e-3


def test_an_edit_in_place_has_its_gradient(pool: SandboxPool) -> None:
    with start(pool, "    inputs[0] *= 3\n    return inputs") as job:
        assert torch.equal(edit(job, torch.ones(2, 2), 1), torch.tensor([[3.0, 3.0], [1.0, 1.0]]))
        assert torch.equal(back(job, torch.ones(2, 2), 1), torch.tensor([[3.0, 3.0], [1.0, 1.0]]))


def test_a_constant_has_the_gradient_zero(pool: SandboxPool) -> None:
    with start(pool, "    return torch.ones_like(inputs)") as job:
        edit(job, torch.randn(3), 1)
        assert torch.equal(back(job, torch.ones(3), 1), torch.zeros(3))


def test_calls_that_save_ctx_connects(pool: SandboxPool) -> None:
    """y1 = x1, y2 = x2 * x1: the gradient of x1 has a part that comes through the second call."""
    first, second = "    save_ctx.x = inputs\n    return inputs * 1", "    return inputs * save_ctx.x"
    x1, x2, g1, g2 = (torch.randn(4, generator=torch.Generator().manual_seed(i)) for i in range(4))
    with start(pool, first, second) as job:
        edit(job, x1, 1, source=0)
        edit(job, x2, 2, source=1)
        assert torch.equal(back(job, g2, 2, source=1), g2 * x1)
        assert torch.equal(back(job, g1, 1, source=0), g2 * x2 + g1)


def test_a_gradient_that_would_come_too_late_is_an_error(pool: SandboxPool) -> None:
    first, second = "    save_ctx.x = inputs\n    return inputs * 1", "    return inputs * save_ctx.x"
    with start(pool, first, second) as job:
        edit(job, torch.ones(2), 1, source=0)
        edit(job, torch.ones(2), 2, source=1)
        back(job, torch.ones(2), 1, source=0)
        with pytest.raises(PatchbayError, match=r"PB_EDIT_FAILED.*GradientOrder"):
            back(job, torch.ones(2), 2, source=1)


def test_an_exception_in_the_backward_pass_names_its_type(pool: SandboxPool) -> None:
    source = (
        "    class F(torch.autograd.Function):\n"
        "        @staticmethod\n"
        "        def forward(ctx, x): return x * 2\n"
        "        @staticmethod\n"
        "        def backward(ctx, g): raise KeyError('lost')\n"
        "    return F.apply(inputs)"
    )
    with start(pool, source) as job:
        edit(job, torch.ones(2), 1)
        with pytest.raises(PatchbayError, match=r"PB_EDIT_FAILED.*KeyError"):
            back(job, torch.ones(2), 1)
        assert torch.equal(edit(job, torch.ones(2), 2), torch.full((2,), 2.0)), "the job lives on"


def test_graphs_are_released(pool: SandboxPool) -> None:
    with start(pool, "    return inputs * 2") as job:
        edit(job, torch.ones(2), 1)
        job.release()
        with pytest.raises(PatchbayError, match=r"PB_EDIT_FAILED.*KeyError"):
            back(job, torch.ones(2), 1)


def test_without_a_graph_nothing_is_kept(pool: SandboxPool) -> None:
    with start(pool, "    save_ctx.graph = inputs.requires_grad\n    return inputs * 2") as job:
        job.edit(source=0, tensor=torch.ones(2), current_module={})
        assert job.collect().save_ctx == {"graph": False}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_steps_are_those_of_torch(pool: SandboxPool, kind: str) -> None:
    spec = ModuleSpec("m", "linear", {"inFeatures": 3, "outFeatures": 3})
    value, gradient = torch.randn(5, 3), torch.randn(5, 3)
    with start(pool, "    return modules['m'](inputs)", modules=(spec,)) as job:
        job.begin_training({"kind": kind, "lr": 0.1, "weight_decay": 0.01})
        for step in range(3):
            edit(job, value, step)
            back(job, gradient, step)
            job.step()
        got = job.collect().modules
    torch.manual_seed(1)
    module = nn.Linear(3, 3)
    start_weight = module.weight.detach().clone()
    classes = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = classes[kind](module.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        module(value).backward(gradient)
        optimizer.step()
    assert (module.weight - start_weight).abs().max() > 1e-3
    assert torch.equal(got["m.weight"], module.weight.detach())
    assert torch.equal(got["m.bias"], module.bias.detach())


def test_training_without_trainable_modules_is_refused(pool: SandboxPool) -> None:
    spec = ModuleSpec("m", "linear", {"inFeatures": 3, "outFeatures": 3}, trainable=False)
    with start(pool, "    return inputs", modules=(spec,)) as job, pytest.raises(PatchbayError) as caught:
        job.begin_training({"kind": "sgd", "lr": 0.1})
    assert caught.value.code == "PB_NOTHING_TO_TRAIN"


def test_a_loss_is_one_number(pool: SandboxPool) -> None:
    logits = torch.randn(2, 3, 4)
    good = "def loss(logits, save_ctx, modules):\n    return (logits ** 2).sum()"
    bad = "def loss(logits, save_ctx, modules):\n    return logits.sum(-1)"
    job = pool.acquire()
    with job:
        job.init(seed=0, sources=[EditSource("good", good, "loss", 3), EditSource("bad", bad, "loss", 3)])
        assert torch.equal(job.loss(source=0, logits=logits, graph=1), (logits**2).sum())
        pulled = job.backward(source=0, gradient=torch.ones(()), graph=1, shape=(2, 3, 4))
        assert torch.equal(pulled, 2 * logits)
        with pytest.raises(PatchbayError, match="PB_EDIT_SHAPE"):
            job.loss(source=1, logits=logits, graph=2)
