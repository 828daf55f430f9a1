"""The ground truth of the conformance tests: a job document on the unsharded model, one process, plain torch hooks.

Written without the product's engine, hooks, sharding or sandbox on purpose. Reads {model, document, out} per line,
writes `outputs.safetensors`, `activations.safetensors` and `save_ctx.safetensors` into `out`, answers
{runs, editCalls}. Covers what the tests use: every hook type, python edits, text or tokenIds, forward, backward,
training by SGD and greedy generation. Modules are drawn by the seed.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree
from transformers import AutoModelForCausalLM, AutoTokenizer


class Context(Namespace):
    """save_ctx: attributes and items."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return hasattr(self, str(name))


def matches(pattern: str, name: str) -> bool:
    """`*` is one path segment."""
    parts, names = pattern.split("."), name.split(".")
    return len(parts) == len(names) and all(fnmatch.fnmatchcase(n, p) for n, p in zip(names, parts, strict=True))


def build_modules(document: dict[str, Any]) -> dict[str, nn.Module]:
    torch.manual_seed(document.get("seed", 0))
    built: dict[str, nn.Module] = {}
    for name, spec in document.get("modules", {}).items():
        assert spec["kind"] == "linear", "the reference knows linear modules only"
        built[name] = nn.Linear(spec["inFeatures"], spec["outFeatures"], spec.get("bias", True))
    return built


class Reference:
    """One document on one model."""

    def __init__(self, model_path: str, document: dict[str, Any]) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(model_path)
        self.document = document
        self.ctx = Context()
        self.modules = build_modules(document)
        self.activations: dict[str, Tensor] = {}
        self.calls: dict[tuple[str, str], int] = {}
        self.edit_calls = 0

    def attach(self, run: dict[str, Any]) -> list[Any]:
        self.calls.clear()
        handles: list[Any] = []
        enabled = run.get("hooks", {"groups": ["all"]})
        for index, hook in enumerate(self.document.get("hooks", [])):
            name = hook.get("name", f"hook-{index}")
            if "names" in enabled and name not in enabled["names"]:
                continue
            if "groups" in enabled and not ({"all", *hook.get("groups", [])} & set(enabled["groups"])):
                continue
            function = self.compile(hook)
            if hook.get("hookType") == "tensor":
                handles += self.watch_parameters(name, hook, function, run["name"])
                continue
            for path, module in self.model.named_modules():
                if matches(hook["moduleName"], path):
                    handles.append(self.register(module, path, name, hook, function, run["name"]))
        return handles

    def watch_parameters(self, name: str, hook: dict[str, Any], function: Any, run: str) -> list[Any]:
        handles = []
        for path, parameter in self.model.named_parameters():
            if matches(hook["moduleName"], path):
                parameter.requires_grad_(True)
                handles.append(
                    parameter.register_hook(
                        lambda gradient, path=path: self.call(gradient, path, name, hook, function, run)
                    )
                )
        return handles

    def compile(self, hook: dict[str, Any]) -> Any:
        edit = hook.get("edit", {"kind": "none"})
        if edit["kind"] == "none":
            return None
        if edit["kind"] == "graph":
            return lambda _module, inputs, _ctx, _modules: computed(edit["steps"], inputs)
        scope: dict[str, Any] = {"torch": torch, "np": np}
        exec(edit["source"], scope)  # the tests' own sources
        return scope[edit.get("entry", "edit")]

    def register(self, module: nn.Module, path: str, name: str, hook: dict[str, Any], function: Any, run: str) -> Any:
        def apply(tree: Any) -> Any:
            leaves, spec = _pytree.tree_flatten(tree)
            tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
            slot = tensors[hook.get("unpackIdx", 0)]
            leaves[slot] = self.call(leaves[slot], path, name, hook, function, run)
            return _pytree.tree_unflatten(leaves, spec)

        kind = hook.get("hookType", "forward")
        if kind == "full_backward_pre":
            return module.register_full_backward_pre_hook(lambda _m, gradients: apply(gradients))
        if kind == "full_backward":
            return module.register_full_backward_hook(lambda _m, gradients, _g: apply(gradients))
        if kind == "forward":
            return module.register_forward_hook(lambda _m, _i, output: apply(output))
        return module.register_forward_pre_hook(lambda _m, args, kwargs: apply((args, kwargs)), with_kwargs=True)

    def call(self, x: Tensor, path: str, name: str, hook: dict[str, Any], function: Any, run: str) -> Tensor:
        count = self.calls.get((name, path), 0)
        self.calls[name, path] = count + 1
        where = hook.get("where", {})
        if "steps" in where and count not in where["steps"]:
            return x
        part = x
        positions = where.get("positions")
        rows = where.get("rows")
        if rows is not None:
            part = part[rows]
        if positions is not None:
            part = part[:, positions]
        after = part.clone()
        if function is not None:
            self.edit_calls += 1
            after = function(Namespace(name=path), part.clone(), self.ctx, self.modules)
        save = hook.get("save", "pre")
        if save != "none":
            self.activations[f"{run}/{name}/{path}/{count}"] = (part if save == "pre" else after).detach().clone()
        if function is None:
            return x
        out = x.clone()
        row_index = torch.tensor(rows if rows is not None else list(range(x.shape[0])))
        if positions is None:
            out[row_index] = after
        else:
            column = torch.tensor(positions) % x.shape[1]
            out[row_index[:, None], column[None, :]] = after
        return out

    def inputs(self, run: dict[str, Any]) -> Tensor:
        given = run["inputs"]
        if "tokenIds" in given:
            return torch.tensor(given["tokenIds"])
        return torch.tensor([self.tokenizer(text).input_ids for text in given["text"]])

    def forward(self, run: dict[str, Any]) -> Tensor:
        handles = self.attach(run)
        try:
            with torch.no_grad():
                logits: Tensor = self.model(self.inputs(run)).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits

    def loss(self, run: dict[str, Any], logits: Tensor) -> Tensor:
        loss = run["loss"]
        if loss["kind"] == "nextToken":
            return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), self.inputs(run)[:, 1:].flatten())
        assert loss["kind"] == "logitDiff", "the reference knows two losses"
        target, foil = (self.tokenizer(loss[key]).input_ids[0] for key in ("target", "foil"))
        last = logits[:, loss.get("position", -1)]
        return (last[:, target] - last[:, foil]).sum()

    def differentiate(self, run: dict[str, Any]) -> Tensor:
        """Forward and backward; gradients stay where they arrive."""
        begin = self.model.get_input_embeddings().register_forward_hook(lambda _m, _a, out: out.requires_grad_())
        handles = [begin, *self.attach(run)]
        try:
            logits: Tensor = self.model(self.inputs(run)).logits
            torch.autograd.backward(self.loss(run, logits))
        finally:
            for handle in handles:
                handle.remove()
            self.model.requires_grad_(False)
        return logits.detach()

    def train(self, run: dict[str, Any]) -> None:
        assert run["optimizer"]["kind"] == "sgd", "the reference knows SGD only"
        parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=run["optimizer"]["lr"])
        for _ in range(run["steps"]):
            self.differentiate(run)
            optimizer.step()
            optimizer.zero_grad()

    def generate(self, run: dict[str, Any]) -> list[list[int]]:
        ids = self.inputs(run)
        handles = self.attach(run)
        cache, new = None, []
        step = ids
        try:
            with torch.no_grad():
                for _ in range(run.get("maxNewTokens", 16)):
                    output = self.model(step, past_key_values=cache, use_cache=True)
                    cache = output.past_key_values
                    step = output.logits[:, -1].argmax(-1, keepdim=True)
                    new.append(step)
                    if step.item() == self.tokenizer.eos_token_id:  # the cases generate one row
                        break
        finally:
            for handle in handles:
                handle.remove()
        generated: list[list[int]] = torch.cat(new, dim=1).tolist()
        return generated


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Runs one request; the tensors go into files of its folder."""
    out = Path(request["out"])
    document = request["document"]
    reference = Reference(request["model"], document)
    outputs: dict[str, Tensor] = {}
    runs: dict[str, Any] = {}
    for index, run in enumerate(document["runs"]):
        run.setdefault("name", f"run-{index}")
        mode = run.get("mode", "forward")
        if mode == "generate":
            runs[run["name"]] = {"generatedTokenIds": reference.generate(run)}
        elif mode == "train":
            reference.train(run)
        elif mode == "backward":
            outputs[f"{run['name']}/logits"] = reference.differentiate(run).contiguous()
        else:
            outputs[f"{run['name']}/logits"] = reference.forward(run).contiguous()
    kept = vars(reference.ctx).items()
    tensors = {key: value.detach().contiguous() for key, value in kept if isinstance(value, Tensor)}
    captured = {key: value.contiguous() for key, value in reference.activations.items()}
    save_file(outputs, out / "outputs.safetensors")
    save_file(captured, out / "activations.safetensors")
    save_file(tensors, out / "save_ctx.safetensors")
    return {"runs": runs, "editCalls": reference.edit_calls}


def computed(steps: list[dict[str, Any]], x: Tensor) -> Tensor:
    """The steps of a graph edit without constants, by torch's functions of these names."""
    values: dict[str, Any] = {"x": x}
    result = x
    for step in steps:
        op, dim = step["op"], int(step.get("dim", -1))
        first, *others = [values[each] if isinstance(each, str) else each for each in step["args"]]
        if op in ("sum", "mean"):
            result = getattr(torch, op)(first, dim, keepdim=True)
        elif op == "flatten":
            result = first.flatten(dim, dim + 1)
        elif op == "unflatten":
            result = first.unflatten(dim, step["sizes"])
        elif op == "fill":
            result = first.clone().index_fill_(dim, torch.tensor(step["indices"]), step["value"])
        elif op == "softmax":
            result = torch.softmax(first, dim)
        else:
            result = getattr(torch, op)(first, *others)
        values[step.get("as", "")] = result
    return result


def main() -> None:
    """One request per line on stdin, one answer per line on stdout: importing torch takes longer than a case."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
