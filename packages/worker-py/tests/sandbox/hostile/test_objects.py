"""Python objects made to hurt whoever looks at them: exceptions, tensors, outputs, values, modules and losses.

Whatever comes of them comes typed, with the line in the user's source where there is one.
"""

from __future__ import annotations

import pytest
import torch

from patchbay_worker.errors import PatchbayError
from patchbay_worker.sandbox.client import EditSource, ModuleSpec
from patchbay_worker.sandbox.lockdown.plan import Plan

from ..support import refused, run
from .conftest import PoolOf, Watch, limits_for, start

RAISED = {
    "a module that is no text": "class E(Exception): pass\n"
    "E.__module__ = type('X', (), {'__str__': lambda s: 1 / 0})()\n",
    "an errno that raises": "class E(OSError):\n    errno = property(lambda s: 1 / 0)\n",
    "a traceback that raises": "class E(Exception):\n    __traceback__ = property(lambda s: 1 / 0)\n",
    "a class that lies": "class E(Exception):\n    __class__ = property(lambda s: 1 / 0)\n",
    "a text that is a class": "class S(str):\n    def __str__(self): raise SystemExit\n"
    "class E(Exception):\n    def __str__(self): return S('x')\n",
    "our own kind, with an object": "from patchbay_worker.sandbox.job.user_code import Refusal\n"
    "def E(): return Refusal('failed', a=object())\n",
    "our own kind, far too long": "from patchbay_worker.sandbox.job.user_code import Refusal\n"
    "def E(): return Refusal('shape', expected=list(range(99999)), actual=[])\n",
}


@pytest.mark.parametrize("name", RAISED)
def test_an_exception_that_cannot_be_looked_at(pool_of: PoolOf, name: str) -> None:
    body = f"{RAISED[name]}raise E()"
    with start(pool_of(Plan()), body) as job:
        problem = refused("PB_EDIT_FAILED", lambda: run(job))
        assert problem.remote is not None
        assert problem.remote["line"] == body.count("\n") + 2
        refused("PB_EDIT_FAILED", lambda: run(job))  # it still answers


OUTPUTS = ("sys.stdout.close()", "sys.stdout = 3", "sys.stdout = sys.stderr = None", "sys.stdout.detach()")


@pytest.mark.parametrize("body", OUTPUTS)
def test_an_output_that_is_gone_ends_nothing(pool_of: PoolOf, body: str) -> None:
    with start(pool_of(Plan()), f"import sys\nprint('before', end='')\n{body}\nreturn inputs + 1") as job:
        assert run(job, torch.zeros(1)).item() == 1
        assert job.logs() == "before"


RETURNED = {
    "functions that lie": "class T(torch.Tensor):\n    @classmethod\n"
    "    def __torch_function__(cls, f, t, a=(), k=None): return 7\nreturn inputs.as_subclass(T)",
    "functions that raise": "class T(torch.Tensor):\n    @classmethod\n"
    "    def __torch_function__(cls, f, t, a=(), k=None): raise ValueError('no')\nreturn inputs.as_subclass(T)",
    "a shape that lies": "class T(torch.Tensor):\n    shape = property(lambda s: torch.Size([1, 3, 4]))\n"
    "return torch.zeros(2).as_subclass(T)",
    "a mode that never ends": "from torch.utils._python_dispatch import TorchDispatchMode\n"
    "class M(TorchDispatchMode):\n    def __torch_dispatch__(self, f, t, a=(), k=None): raise ValueError('no')\n"
    "M().__enter__()\nreturn inputs + 1",
    "a hundred dims": "return inputs.reshape((1,) * 100 + (1, 3, 4))",
    "no storage": "inputs.untyped_storage().resize_(0)\nreturn inputs",
    "a view past the end": "return torch.as_strided(inputs, (1, 3, 4), (9999, 9999, 9999))",
    "a nested tensor": "return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])",
    "a million of them": "return [inputs] * 1_000_000",
    "a tree": "return {'a': (inputs, [inputs])}",
    "its own function": "return edit",
    "a sparse tensor": "return inputs.to_sparse()",
    "a compressed tensor": "return inputs[0].to_sparse_csr()",
    "a quantised tensor": "return torch.quantize_per_tensor(inputs, 0.1, 0, torch.qint8)",
    "a tensor of a library": "return inputs.to_mkldnn()",
    "a tensor without numbers": "return inputs.to('meta')",
    "one that left its vmap": "kept = []\ntorch.vmap(lambda x: kept.append(x) or x)(inputs)\nreturn kept[0]",
    "one that left its grad": "kept = []\n"
    "torch.func.grad(lambda x: kept.append(x) or x.sum())(inputs)\nreturn kept[0][0]",
    "memory that is not there": "return torch.frombuffer((ctypes.c_char * 48).from_address(4096), dtype=torch.float32)"
    ".view(1, 3, 4)",
    "memory that has gone": "class A(ctypes.Structure): pass\nm = mmap.mmap(-1, 4096)\n"
    "t = torch.frombuffer(m, dtype=torch.float32, count=12).view(1, 3, 4)\n"
    "ctypes.CDLL(None).munmap(ctypes.c_void_p(t.data_ptr()), ctypes.c_size_t(4096))\nreturn t",
    "a function tensor": "from torch._subclasses.fake_tensor import FakeTensorMode\n"
    "with FakeTensorMode(): return torch.empty(1, 3, 4)",
}
TYPED = ("PB_EDIT_FAILED", "PB_EDIT_SHAPE", "PB_EDIT_RETURNED_NONE", "PB_EDIT_BLOCKED", "PB_EDIT_CRASHED")


def test_a_tensor_that_is_none_is_refused_by_type(pool_of: PoolOf) -> None:
    pool = pool_of(Plan())
    got = {}
    with Watch(pool):
        for name, body in RETURNED.items():
            with start(pool, f"import ctypes, mmap\n{body}") as job:
                try:
                    got[name] = str(tuple(run(job).shape))
                except PatchbayError as problem:
                    got[name] = problem.code
    assert {name: code for name, code in got.items() if code not in TYPED} == {}


KEPT = {
    "a mapping without end": (
        "from collections.abc import Mapping\nclass M(Mapping):\n"
        "    def __getitem__(self, k): return k\n    def __iter__(self):\n        while True: yield 1\n"
        "    def __len__(self): return 1\nsave_ctx.x = M()",
        "PB_EDIT_TIMEOUT",
    ),
    "a circle": ("save_ctx.x = []\nsave_ctx.x.append(save_ctx.x)", None),
    "a key without text": (
        "class K:\n    def __str__(self): raise ValueError('no key')\nsave_ctx.x = {K(): 1}",
        "PB_EDIT_FAILED",
    ),
    "a number without value": (
        "class F(float):\n    def __float__(self): raise ValueError('no value')\nsave_ctx.x = F(1)",
        "PB_EDIT_FAILED",
    ),
    "a million tensors": ("save_ctx.x = [torch.zeros(1)] * 1_000_000", None),
    "deep lists": ("save_ctx.x = []\nfor _ in range(100_000): save_ctx.x = [save_ctx.x]", None),
    "large text": ("save_ctx.x = 'x' * 50_000_000", None),
    "more elements than memory": ("save_ctx.x = torch.zeros(1).expand(1 << 40)", None),
    "its own classes": ("save_ctx.__class__ = dict", "PB_EDIT_FAILED"),
    "huge numbers": ("save_ctx.x = [10 ** 5_000, -(10 ** 100_000), 1 << 40_000]", None),
    "halves of letters": ("save_ctx.x = {'\\ud800': '\\udfff'}\nsave_ctx['\\ud800'] = torch.ones(1)", None),
    "names that are commands": ("for n in ('\\x1b[2J\\r\\n', '../../x', '', '\\0'): save_ctx[n] = torch.ones(1)", None),
    "a key that never ends": (
        "class K:\n    def __str__(self):\n        while True: pass\nsave_ctx.x = {K(): 1}",
        "PB_EDIT_TIMEOUT",
    ),
    "a number that never ends": (
        "class F(float):\n    def __float__(self):\n        while True: pass\nsave_ctx.x = F(1)",
        "PB_EDIT_TIMEOUT",
    ),
    "a text with another text": ("class S(str):\n    def __str__(self): return 7\nsave_ctx.x = S('x')", None),
    "arrays without numbers": (
        "save_ctx.x = [np.array([object()]), np.zeros(2, 'u4,f8'), "
        "np.array(['a']), np.longdouble(1), np.ones(4)[::-1]]",
        None,
    ),
    "tensors of one memory": ("x = torch.zeros(1 << 16)\nsave_ctx.x = [x] * 300", None),
    "a tensor that hides its size": (
        "class T(torch.Tensor):\n    def numel(self): return 0\n    shape = property(lambda s: [1 << 40])\n"
        "save_ctx.x = torch.zeros(4).as_subclass(T)",
        "PB_EDIT_CRASHED",
    ),
    "a tensor that never ends": (
        "class T(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, *a, **k):\n"
        "        while True: pass\nsave_ctx.x = torch.zeros(4).as_subclass(T)",
        "PB_EDIT_TIMEOUT",
    ),
    "tensors of every layout": (
        "save_ctx.x = [inputs.to_sparse(), torch.nested.nested_tensor([inputs[0], inputs[0, :1]]), inputs.to('meta'), "
        "torch.quantize_per_tensor(inputs, 0.1, 0, torch.qint8), inputs.to_mkldnn(), inputs.to(torch.complex128)]",
        None,
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_comes_out_bounded_or_not_at_all(pool_of: PoolOf, name: str) -> None:
    body, code = KEPT[name]
    pool = pool_of(Plan())
    with Watch(pool), start(pool, f"{body}\nreturn inputs", limits_for(code, 2)) as job:

        def both() -> object:
            run(job)
            return job.collect()

        if code is not None:
            refused(code, both)
        else:
            both()


def module(body: str) -> ModuleSpec:
    return ModuleSpec("hostile", "python", {"source": f"def build():\n    {body}"})


BUILT = {
    "it hangs": ("while True: pass", "PB_EDIT_TIMEOUT"),
    "it forks": ("import os; os.fork()", "PB_EDIT_BLOCKED"),
    "it takes all memory": ("return torch.nn.Linear(1 << 18, 1 << 18)", "PB_EDIT_MEMORY"),
    "it exits": ("raise SystemExit(0)", "PB_EDIT_FAILED"),
    "it is no module": ("return lambda x: x", "PB_EDIT_RETURNED_NONE"),
    "its gradients cannot be set": (
        "return type('M', (torch.nn.Module,), {'requires_grad_': lambda s, r=True: 1 / 0})()",
        "PB_EDIT_FAILED",
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_hostile_build(pool_of: PoolOf, name: str) -> None:
    body, code = BUILT[name]
    pool = pool_of(Plan())
    with Watch(pool), pool.acquire(limits_for(code)) as job:
        problem = refused(code, lambda: job.init(seed=0, modules=[module(body)]))
        assert code in ("PB_EDIT_TIMEOUT", "PB_EDIT_RETURNED_NONE") or (problem.remote or {}).get("line")


def test_many_modules_and_hostile_states(pool_of: PoolOf) -> None:
    pool = pool_of(Plan())
    save = "lambda s, found, prefix, keep: found.update(VALUE)"
    state = f"return type('M', (torch.nn.Module,), {{'_save_to_state_dict': {save}}})()"
    with Watch(pool):
        with pool.acquire() as job:
            many = [ModuleSpec(f"m{n}", "linear", {"inFeatures": 1, "outFeatures": 1}) for n in range(300)]
            job.init(seed=0, modules=many)
            assert len(job.collect().modules) == 600
        with pool.acquire() as job:
            job.init(seed=0, modules=[module(state.replace("VALUE", "{'x': 7}"))])
            refused("PB_EDIT_FAILED", job.collect)
        with pool.acquire() as job:
            job.init(seed=0, modules=[module(state.replace("VALUE", "{'../x': torch.ones(1)}"))])
            found = job.collect()
            assert (found.modules, len(found.warnings)) == ({}, 1)


LOSSES = {
    "it hangs": ("while True: pass", "PB_EDIT_TIMEOUT"),
    "it hangs in backward": (
        "class F(torch.autograd.Function):\n        forward = staticmethod(lambda c, x: x.sum())\n"
        "        @staticmethod\n        def backward(c, g):\n            while True: pass\n    return F.apply(logits)",
        "PB_EDIT_TIMEOUT",
    ),
    "it connects": ("import socket; socket.socket()", "PB_EDIT_BLOCKED"),
    "it gives text": ("return 'low'", "PB_EDIT_RETURNED_NONE"),
    "a gradient of another shape": (
        "class F(torch.autograd.Function):\n        forward = staticmethod(lambda c, x: x.sum())\n"
        "        backward = staticmethod(lambda c, g: torch.ones(7))\n    return F.apply(logits)",
        "PB_EDIT_FAILED",
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_hostile_loss(pool_of: PoolOf, name: str) -> None:
    body, code = LOSSES[name]
    source = EditSource("loss", f"def loss(logits, save_ctx, modules):\n    {body}", "loss", 3)
    pool = pool_of(Plan())
    with Watch(pool), pool.acquire(limits_for(code)) as job:
        job.init(seed=0, sources=[source])

        def there_and_back() -> None:
            value = job.loss(source=0, logits=torch.ones(1, 2, 3), graph=1)
            job.backward(source=0, gradient=torch.ones_like(value), graph=1, shape=(1, 2, 3))

        refused(code, there_and_back)


SOURCES = {
    "it hangs when it is read": ("while True: pass", "PB_EDIT_TIMEOUT"),
    "a constant that never ends": ("x = 9 ** 9 ** 9", "PB_EDIT_TIMEOUT"),
    "deep brackets": ("x = " + "(" * 300 + ")" * 300, "PB_EDIT_SYNTAX"),
    "a deep expression": ("x = " + "-" * 100_000 + "1", "PB_EDIT_SYNTAX"),
    "a signature that hangs": (
        "class E:\n    def __call__(self, *a): pass\n"
        "    @property\n    def __signature__(self):\n        while True: pass\n"
        "edit = E()",
        "PB_EDIT_TIMEOUT",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_attacks_its_reader(pool_of: PoolOf, name: str) -> None:
    source, code = SOURCES[name]
    pool = pool_of(Plan())
    with Watch(pool), pool.acquire(limits_for(code)) as job:
        refused(code, lambda: job.init(seed=0, sources=[EditSource("source", source)]))


def test_bombs_of_nan_pass_as_numbers(pool_of: PoolOf) -> None:
    body = "save_ctx.x = [float('nan'), float('inf')]\nsave_ctx.n = 2**53\nreturn inputs * float('nan')"
    with start(pool_of(Plan()), body) as job:
        assert run(job).isnan().all()
        kept = job.collect().save_ctx
    assert kept == {"x": ["NaN", "Infinity"], "n": str(2**53)}, "no reader of JSON rounds or refuses them"
