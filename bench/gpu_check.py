"""What scripts/gpu-check runs: jobs on one device against plain torch hooks on the same device, then what a hook adds
to a pass. One process, one device, no Ray. Writes a table; ends with 1 when a row does not hold.

Not here: several GPUs (torchrun with `patchbay_worker.engine`, docs/gpu.md).
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoModelForCausalLM

from patchbay_worker.artifacts.folder import ArtifactFolder
from patchbay_worker.contract import parse_document
from patchbay_worker.engine.config import EngineConfig, JobContext, JobOutput
from patchbay_worker.engine.engine import Engine
from patchbay_worker.errors import PatchbayError
from patchbay_worker.sharding.probe import dtype_name
from support.checkpoints import make_checkpoint

TOKENS = [[5, 9, 31, 4, 17, 22, 90, 41], [7, 3, 100, 8, 50, 61, 12, 77]]
SITE = "model.layers.1.mlp.gate_proj"
EFFECT = 1e-3
# The same kernels on the same device differ by nothing; float32 sums of 64 products in another order by about 1e-6 of
# logits of size 10; bfloat16 keeps 8 bits, so 2**-8 of such a logit is 0.04 per rounding.
TOLERANCE = {"float32": 2e-5, "bfloat16": 0.15}
FAMILIES = ("llama", "qwen3", "gemma3", "mixtral")
MIX = "return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.01"
ROUNDS = 10


@dataclass
class Row:
    what: str
    value: str
    holds: bool


def edit(body: str) -> dict[str, Any]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n    {body}\n"}


def hook(body: str, **more: Any) -> dict[str, Any]:
    return {"moduleName": SITE, "edit": edit(body), **more}


class Bench:
    """One engine on the device and the plain model beside it."""

    def __init__(self, folder: Path, device: Any, dtype: str) -> None:
        self.engine = Engine(
            EngineConfig(
                model_path=str(folder),
                name=folder.name,
                tp=1,
                rank=0,
                world_size=1,
                master_addr="127.0.0.1",
                master_port=0,
                dtype=dtype,
                device=device,
            )
        )
        self.plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(device)
        self.plain.requires_grad_(False)
        self.device = device
        self.artifacts = ArtifactFolder(folder / "artifacts")

    def run(self, hooks: list[dict[str, Any]], modules: dict[str, Any] | None = None, **run: Any) -> JobOutput:
        body = {"version": 1, "model": "m", "hooks": hooks, "modules": modules or {}}
        body["runs"] = [{"name": "r", "inputs": {"tokenIds": TOKENS}, **run}]
        context = JobContext(
            job_id="gpu-check",
            attempt=1,
            document=parse_document(body),
            deadline_unix_ms=None,
            fetch_artifact=self.artifacts.get,
            store_artifact=self.artifacts.put,
        )
        output = self.engine.execute(self.engine.prepare(context), lambda _event: None)
        assert output is not None, "the only rank has the result"
        return output

    def logits(self, hooks: list[dict[str, Any]]) -> Tensor:
        return self.run(hooks, **{"return": {"logits": "all"}}).files["outputs.safetensors"]["r/logits"]

    def plain_logits(self, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        module = self.plain.get_submodule(SITE) if change is not None else None
        handle = module.register_forward_hook(lambda _m, _a, out: change(out)) if change and module else None
        try:
            with torch.no_grad():
                found: Tensor = self.plain(torch.tensor(TOKENS, device=self.device), use_cache=False).logits.cpu()
                return found
        finally:
            if handle is not None:
                handle.remove()

    def seconds(self, hooks: list[dict[str, Any]]) -> float:
        times = []
        for index in range(-2, ROUNDS):
            self._wait()
            started = time.perf_counter()
            self.run(hooks)
            self._wait()
            if index >= 0:
                times.append(time.perf_counter() - started)
        return statistics.median(times)

    def held(self) -> int:
        """Bytes of tensors on the device; those of the CPU are counted one by one."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            return int(torch.cuda.memory_allocated())
        gc.collect()
        tensors = (value for value in gc.get_objects() if issubclass(type(value), Tensor))
        return sum(value.numel() * value.element_size() for value in tensors)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def edits(bench: Bench, tolerance: float) -> list[Row]:
    plain = bench.logits([])
    want = bench.plain_logits(lambda x: (x.cpu().flip(-1) * 0.5 + x.cpu().cumsum(-1) * 0.01).to(x.device))
    found = bench.logits([hook(MIX, save="none")])
    off, bites = difference(found, want), difference(found, plain)
    read = bench.run([{"name": "h", "moduleName": "**"}], **{"return": {"logits": "all"}})
    same = torch.equal(read.files["outputs.safetensors"]["r/logits"], plain)
    nothing = torch.equal(bench.logits([hook("return inputs")]), plain)
    base = difference(plain, bench.plain_logits())
    return [
        Row("no hook equals the plain model", f"{base:.0e}", base <= tolerance),
        Row(
            "python edit equals a plain hook",
            f"{off:.0e} (the edit moves {bites:.1e})",
            off <= tolerance and bites > EFFECT,
        ),
        Row("reading every module changes nothing (I1)", "bit-equal" if same else "differs", same),
        Row("an edit that gives its input back changes nothing (I2)", "bit-equal" if nothing else "differs", nothing),
    ]


def gradients(bench: Bench, tolerance: float) -> list[Row]:
    watch = {"name": "g", "moduleName": SITE, "hookType": "full_backward_pre"}
    output = bench.run([watch], mode="backward", loss={"kind": "sumLogits", "position": -1})
    found = output.files["gradients.safetensors"][f"r/g/{SITE}/0"]
    kept: list[Tensor] = []

    def keep(_module: Any, _args: Any, out: Tensor) -> None:
        out.requires_grad_().retain_grad()
        kept.append(out)

    handle = bench.plain.get_submodule(SITE).register_forward_hook(keep)
    logits = bench.plain(torch.tensor(TOKENS, device=bench.device), use_cache=False).logits
    handle.remove()
    torch.autograd.backward(logits[:, -1].float().sum())
    assert kept[0].grad is not None
    want = kept[0].grad.cpu()
    off = difference(found, want) / max(1.0, float(want.abs().max()))
    return [Row("gradient equals plain autograd", f"{off:.0e}", off <= tolerance and float(want.abs().max()) > EFFECT)]


def training_and_generation(bench: Bench) -> list[Row]:
    modules = {"a": {"kind": "lowRank", "inFeatures": 128, "outFeatures": 128, "rank": 4}}
    adapt = hook("return inputs + modules['a'](inputs.float()).to(inputs.dtype)", save="none")
    fit = {"mode": "train", "loss": {"kind": "nextToken"}, "steps": 10, "optimizer": {"kind": "adamw", "lr": 0.01}}
    losses = bench.run([adapt], modules, **fit, checkpointEvery=5).result["runs"]["r"]["losses"]
    story = bench.run([], mode="generate", maxNewTokens=8).result["runs"]["r"]["generatedTokenIds"]
    expected = [list(row) for row in TOKENS]
    with torch.no_grad():
        for _ in range(8):
            ids = torch.tensor(expected, device=bench.device)
            for row, token in zip(
                expected, bench.plain(ids, use_cache=False).logits[:, -1].argmax(-1).tolist(), strict=True
            ):
                row.append(token)
    agree = all(
        row[len(prompt) : len(prompt) + len(new)] == new
        for row, prompt, new in zip(expected, TOKENS, story, strict=True)
    )
    return [
        Row(
            "training learns, with checkpoints", f"{losses[0]:.3f} -> {losses[-1]:.3f}", losses[-1] < losses[0] - EFFECT
        ),
        Row("generation with cache equals teacher forcing (I16)", "equal" if agree else "differs", agree),
    ]


def speed(bench: Bench) -> list[Row]:
    base = bench.seconds([])
    rows = [Row("a pass without hooks", f"{base * 1e3:.2f} ms", True)]
    for what, hooks in {
        "one read": [{"moduleName": SITE}],
        "one python edit": [hook("return inputs * 1.001", save="none")],
    }.items():
        taken = bench.seconds(hooks)
        rows.append(Row(f"a pass with {what}", f"{taken * 1e3:.2f} ms, {taken / base:.2f} x", True))
    return rows


def placement(bench: Bench) -> list[Row]:
    """Weights, inputs and the gradient that a hook edits lie on the device; nothing of a job stays there."""
    model = bench.engine._loaded.model
    away = [name for name, value in model.state_dict().items() if value.device.type != bench.device]
    many = [hook("return inputs * 1.001"), {"name": "all", "moduleName": "model.layers.*"}]
    backward: dict[str, Any] = {"mode": "backward", "loss": {"kind": "nextToken"}}
    for _ in range(5):
        bench.run(many, **backward)
    before = bench.held()
    for _ in range(ROUNDS):
        bench.run(many, **backward)
    grown = bench.held() - before
    return [
        Row("every weight is on the device", ", ".join(away[:3]) or "all", not away),
        Row(f"device memory after {ROUNDS} more jobs", f"{grown:+d} bytes", grown <= 0),
    ]


def refusals(bench: Bench) -> list[Row]:
    """What would raise in the middle of a kernel, where CUDA loses the process, is refused before."""
    rows = []
    sampled: dict[str, Any] = {"mode": "generate", "maxNewTokens": 2, "temperature": 1.0}
    plain: dict[str, Any] = {}
    ids = {"moduleName": "model", "hookType": "forward_pre", "edit": edit("return inputs + 100000")}
    nan = {"moduleName": "lm_head", "edit": edit("return inputs * float('nan')")}
    for what, wrong, code, run in (
        ("ids outside of the vocabulary", ids, "PB_TOKEN_OUT_OF_RANGE", plain),
        ("tokens from NaN", nan, "PB_LOGITS_NOT_FINITE", sampled),
        ("an edit that raises", hook("raise ValueError('mine')"), "PB_EDIT_FAILED", plain),
    ):
        try:
            bench.run([wrong], **run)
            found = "completed"
        except PatchbayError as problem:
            found = problem.code
        rows.append(Row(f"refused: {what}", found, found == code))
    bench.run([])
    return rows


def collectives(device: Any) -> list[Row]:
    """One rank moves nothing, but it shows that the backend takes every operation and dtype that hooks use."""
    backend = "nccl" if device == "cuda" else "gloo"
    place = torch.device(device, 0) if device == "cuda" else None
    store = dist.HashStore()  # type: ignore[attr-defined] # documented, but not in the stubs
    dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=place)
    rows = []
    try:
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool):
            value, into = torch.ones(6, device=device).to(dtype), torch.zeros(6, device=device).to(dtype)
            gathered = [torch.zeros_like(value)]
            dist.gather(value, gathered, group_dst=0, async_op=True).wait()
            dist.scatter(into, gathered, group_src=0)
            dist.broadcast(into, group_src=0)
            dist.all_gather(gathered, into)
            rows.append(Row(f"{backend} moves {dtype_name(dtype)}", "equal", torch.equal(gathered[0], value)))
    finally:
        dist.destroy_process_group()
    return rows


Part = Callable[[], list[Row]]


def rows_of(name: str, part: Part) -> list[Row]:
    """A part that breaks is a row that does not hold; the others still run."""
    try:
        return part()
    except Exception as failure:
        traceback.print_exc()
        return [Row(name, f"{type(failure).__name__}: {failure}".replace("\n", " ")[:200], holds=False)]


def check(folder: Path, device: Any, dtype: str, family: str) -> list[Row]:
    bench = Bench(folder, device, dtype)
    tolerance = TOLERANCE[dtype]
    parts: dict[str, Part] = {"edits": lambda: edits(bench, tolerance), "refusals": lambda: refusals(bench)}
    if dtype == "float32":  # in bfloat16 two tokens may be equally probable, and gradients are noise of 2**-8
        parts["gradients"] = lambda: gradients(bench, tolerance)
        parts["training and generation"] = lambda: training_and_generation(bench)
        parts["placement"] = lambda: placement(bench)
    if family == "llama":
        parts["speed"] = lambda: speed(bench)
    try:
        return [row for name, part in parts.items() for row in rows_of(name, part)]
    finally:
        bench.engine.close()


def page(tables: dict[str, list[Row]], device: str, seconds: float) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    lines = [f"# gpu-check on {device} ({name}), torch {torch.__version__}, {seconds:.0f} s", ""]
    for title, rows in tables.items():
        lines += [f"## {title}", "", "| what | found | |", "| --- | --- | --- |"]
        lines += [f"| {row.what} | {row.value} | {'holds' if row.holds else '**does not hold**'} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    arguments = parser.parse_args()
    started = time.monotonic()
    tables = {"collectives": rows_of("collectives", lambda: collectives(arguments.device))}
    with tempfile.TemporaryDirectory() as temporary:
        for family in arguments.families:
            folder = make_checkpoint(Path(temporary) / family, family)
            for dtype in TOLERANCE:
                print(f"{family}, {dtype} ...", file=sys.stderr, flush=True)
                case = (folder, arguments.device, dtype, family)
                tables[f"{family}, {dtype}"] = rows_of("load", partial(check, *case))
    text = page(tables, arguments.device, time.monotonic() - started)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu-check.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(row.holds for rows in tables.values() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
