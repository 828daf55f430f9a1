"""What lives in a job across calls: save_ctx, modules, the RNG; and how it comes out at the end."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from patchbay_worker.sandbox.client import ModuleSpec
from patchbay_worker.sandbox.limits import SandboxLimits

from .conftest import StartJob
from .support import edit, run


def test_current_module_says_where_the_edit_is(start: StartJob) -> None:
    body = (
        "m = current_module\n"
        "save_ctx.seen = [m.name, m.class_name, m.training, m.run, m.call, m.step, list(m.shape), m.batch.lengths,\n"
        "                 m.batch.token_ids, m.batch.positions, m.batch.padding]\n"
        "return inputs"
    )
    job = start(edit(body))
    run(job)
    seen = job.collect().save_ctx["seen"]
    lists = [[1, 3, 4], [3], [[5, 9, 31]], [[0, 1, 2]]]
    assert seen == ["model.layers.0.mlp", "Linear", False, "clean", 0, 0, *lists, "right"]


def test_save_ctx_is_shared_by_sources_and_calls(start: StartJob) -> None:
    job = start(
        edit("save_ctx.count = save_ctx.get('count', 0) + 1\nsave_ctx['x'] = inputs\nreturn inputs"),
        edit("assert 'x' in save_ctx and save_ctx.x is save_ctx['x']\nreturn save_ctx.x"),
    )
    first = torch.randn(3)
    run(job, first)
    assert torch.equal(run(job, torch.zeros(3), source=1), first)
    result = job.collect()
    assert result.save_ctx == {"count": 1, "x": {"tensor": "x"}}
    assert torch.equal(result.tensors["x"], first)


def test_save_ctx_values_have_their_honest_form(start: StartJob) -> None:
    body = (
        "save_ctx.plain = {'a': [1, 2.5, 'x', None, True], 'b': (1, 2)}\n"
        "save_ctx.odd = [float('nan'), float('inf'), -float('inf')]\n"
        "save_ctx.numbers = [np.float32(1.5), np.int64(3), torch.float32, inputs.shape]\n"
        "save_ctx.array = np.arange(6).reshape(2, 3)\n"
        "save_ctx.scalar = torch.tensor(2.5)\n"
        "save_ctx.nested = {'acts': [inputs, inputs * 2]}\n"
        "save_ctx.bf16 = inputs.bfloat16()\n"
        "save_ctx.flags = inputs > 3\n"
        "save_ctx.strided = inputs.T\n"
        "save_ctx.bits = torch.randn(2, dtype=torch.complex64).conj()\n"
        "save_ctx.thing = object()\n"
        "save_ctx['bad name/'] = inputs\n"
        "save_ctx.loop = []\nsave_ctx.loop.append(save_ctx.loop)\n"
        "save_ctx.meta = inputs.to('meta')\n"
        "save_ctx.text = 'half a pair: \\ud800'\n"
        "return inputs"
    )
    tensor = torch.arange(6.0).view(2, 3)
    job = start(edit(body))
    run(job, tensor)
    result = job.collect()
    values, tensors = result.save_ctx, result.tensors
    assert values["plain"] == {"a": [1, 2.5, "x", None, True], "b": [1, 2]}
    assert values["odd"] == ["NaN", "Infinity", "-Infinity"]
    assert values["numbers"] == [1.5, 3, "torch.float32", [2, 3]]
    assert values["nested"] == {"acts": [{"tensor": "nested.acts.0"}, {"tensor": "nested.acts.1"}]}
    assert torch.equal(tensors["nested.acts.1"], tensor * 2)
    assert torch.equal(tensors["array"], torch.arange(6).view(2, 3))
    assert tensors["scalar"].shape == ()
    assert tensors["scalar"].item() == 2.5
    assert torch.equal(tensors["bf16"], tensor.bfloat16())
    assert torch.equal(tensors["flags"], tensor > 3)
    assert torch.equal(tensors["strided"], tensor.T)
    assert tensors["bits"].dtype == torch.complex64
    assert "object" in values["thing"]["missing"]
    assert "name" in values["bad name/"]["missing"]
    assert "meta" in values["meta"]["missing"]
    assert "too deep" in str(values["loop"])
    assert values["text"] == "half a pair: \\ud800"
    assert any("save_ctx.thing" in warning for warning in result.warnings)


def test_save_ctx_over_its_limits_is_left_out_with_the_reason(start: StartJob) -> None:
    limits = SandboxLimits(save_ctx_tensors=2, save_ctx_bytes=100, save_ctx_json_bytes=2000)
    job = start(edit("save_ctx.many = [inputs[:1]] * 4\nreturn inputs"), limits=limits)
    run(job, torch.zeros(100))
    result = job.collect()
    assert list(result.tensors) == ["many.0", "many.1"]
    assert "too many" in result.save_ctx["many"][2]["missing"]

    job = start(edit("save_ctx.large = inputs\nsave_ctx.long = 'x' * 5000\nreturn inputs"), limits=limits)
    run(job, torch.zeros(100))
    result = job.collect()
    assert result.tensors == {}
    assert result.save_ctx == {}
    assert "2000 bytes" in result.warnings[-1]


def test_a_tensor_larger_than_the_arena_comes_out_in_pieces(start: StartJob) -> None:
    job = start(
        edit("save_ctx.large = torch.arange(3_000_000).T\nreturn inputs"), limits=SandboxLimits(arena_bytes=4 << 20)
    )
    run(job)
    assert torch.equal(job.collect().tensors["large"], torch.arange(3_000_000))


def test_modules_equal_those_built_here_under_the_same_seed(start: StartJob) -> None:
    specs = [
        ModuleSpec("proj", "linear", {"inFeatures": 8, "outFeatures": 8, "bias": True}),
        ModuleSpec("low", "lowRank", {"inFeatures": 8, "outFeatures": 8, "rank": 2}, trainable=False),
        ModuleSpec("a.mlp", "mlp", {"inFeatures": 8, "hiddenFeatures": 5, "outFeatures": 8, "activation": "tanh"}),
        ModuleSpec("items", "python", {"source": "def build():\n    return torch.nn.LayerNorm(8)"}),
    ]
    torch.manual_seed(3)
    here = {
        "proj": nn.Linear(8, 8),
        "low": nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)),
        "a.mlp": nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 8)),
        "items": nn.LayerNorm(8),
    }
    body = "for name in ('proj', 'low', 'a.mlp', 'items'):\n    inputs = modules[name](inputs)\nreturn inputs"
    job = start(edit(body), modules=specs, seed=3)
    tensor = torch.randn(4, 8)
    want = tensor
    with torch.no_grad():
        for module in here.values():
            want = module(want)
    assert torch.equal(run(job, tensor), want)
    expected = {f"{name}.{key}": value for name, module in here.items() for key, value in module.state_dict().items()}
    got = job.collect().modules
    assert list(got) == list(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert job.collect(modules=False).modules == {}


def test_trainable_decides_requires_grad(start: StartJob) -> None:
    options = {"inFeatures": 2, "outFeatures": 2}
    specs = [ModuleSpec("on", "linear", options), ModuleSpec("off", "linear", options, trainable=False)]
    job = start(
        edit("save_ctx.flags = [m.weight.requires_grad for m in modules.values()]\nreturn inputs"), modules=specs
    )
    run(job)
    assert job.collect().save_ctx["flags"] == [True, False]


@pytest.mark.parametrize("draw", ["torch.rand(6)", "torch.from_numpy(np.random.rand(6)).float()"])
def test_random_numbers_follow_the_seed_alone(start: StartJob, draw: str) -> None:
    source = edit(f"return {draw}")
    wide = ModuleSpec("wide", "linear", {"inFeatures": 64, "outFeatures": 64})
    first = run(start(source, seed=1), torch.zeros(6))
    assert torch.equal(first, run(start(source, seed=1, modules=[wide]), torch.zeros(6))), "seeded after the modules"
    assert not torch.equal(first, run(start(source, seed=2), torch.zeros(6)))


def test_torch_draws_what_it_draws_here(start: StartJob) -> None:
    torch.manual_seed(11)
    assert torch.equal(run(start(edit("return torch.randn(5)"), seed=11), torch.zeros(5)), torch.randn(5))


def test_sets_of_strings_have_one_order(start: StartJob) -> None:
    job = start(edit("save_ctx.order = [w for w in {'paris', 'rome', 'oslo', 'bern'}]\nreturn inputs"))
    run(job)
    again = start(edit("save_ctx.order = [w for w in {'paris', 'rome', 'oslo', 'bern'}]\nreturn inputs"))
    run(again)
    assert job.collect().save_ctx == again.collect().save_ctx


def test_what_edits_usually_need_is_there(start: StartJob) -> None:
    body = (
        "u, s, v = torch.linalg.svd(inputs)\n"
        "save_ctx.s = s\n"
        "torch.fft.rfft(inputs)\n"
        "w = torch.nn.Linear(4, 4)\n"
        "with torch.enable_grad():\n"
        "    optimizer = torch.optim.AdamW(w.parameters(), lr=0.1)\n"
        "    w(torch.ones(4)).sum().backward()\n"
        "    optimizer.step()\n"
        "return torch.nn.functional.gelu(inputs)"
    )
    tensor = torch.randn(4, 4)
    job = start(edit(body))
    assert torch.equal(run(job, tensor), nn.functional.gelu(tensor))
    assert torch.allclose(job.collect().tensors["s"], torch.linalg.svdvals(tensor), atol=1e-5)
    assert math.isfinite(job.edit_seconds)
