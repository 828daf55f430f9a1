"""FlexModel's side of tests/conformance/differential.test.ts, under torchrun on two ranks with its sources on the path:
`flexmodel_side.py MODEL OUT`. Writes tensors of what it gets right, prints as JSON what it does where it is not.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from flex_model.core import FlexModel, HookFunction
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.distributed.configuration_utils import DistributedConfig

Edit = Callable[[Any, Tensor, Namespace, Any], Tensor]
GATE, DOWN, LAYER = "model.layers.2.mlp.gate_proj", "model.layers.1.mlp.down_proj", "model.layers.1"
WIDE = (None, None, 512)


def mix(_module: Any, inputs: Tensor, _ctx: Namespace, _modules: Any) -> Tensor:
    return inputs.flip(-1) * 0.5 + inputs.cumsum(-1) * 0.01


def scale(_module: Any, inputs: Tensor, _ctx: Namespace, _modules: Any) -> Tensor:
    return inputs * 1.5 + 0.1


class Side:
    """A FlexModel per experiment: routing freezes at the first call, results are never cleared (F3, F4)."""

    def __init__(self, path: str) -> None:
        dist.init_process_group("gloo")
        self.world = dist.get_world_size()
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, distributed_config=DistributedConfig(tp_size=self.world)
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(path)
        self.ids: Tensor = tokenizer(
            ["The capital of France is", "The capital of Italy is"], return_tensors="pt"
        ).input_ids
        self.tensors: dict[str, Tensor] = {}

    def hooked(self, *hooks: tuple[str, HookFunction]) -> tuple[Any, dict[str, list[Tensor]]]:
        saved: dict[str, list[Tensor]] = {}
        flex = FlexModel(self.model, saved, tensor_parallel_size=self.world, process_group=dist.group.WORLD)
        for kind, hook in hooks:
            getattr(flex, f"register_{kind}_hook")(hook)
        return flex, saved

    def logits(self, flex: Any, **groups: Any) -> Tensor:
        with torch.no_grad():
            found: Tensor = flex(self.ids, use_cache=False, **groups).logits
        return found

    def case(self, name: str, *hooks: tuple[str, HookFunction], **groups: Any) -> None:
        """The logits, and what each module's list holds."""
        flex, saved = self.hooked(*hooks)
        self.tensors[f"{name}/logits"] = self.logits(flex, **groups)
        for module, values in saved.items():
            self.tensors |= {f"{name}/{module}/{index}": value for index, value in enumerate(values)}
        flex.restore()

    def equal_ones(self) -> None:
        self.case("clean")
        self.case("reads", ("forward", HookFunction(GATE, WIDE)), ("forward", HookFunction(LAYER)))
        self.case("edit", ("forward", HookFunction(GATE, WIDE, mix)))
        self.case("pre", ("forward_pre", HookFunction(DOWN, WIDE, mix)))
        self.case("residual", ("forward", HookFunction(LAYER, None, scale)))
        self.case("chain", ("forward", HookFunction(GATE, WIDE, mix)), ("forward", HookFunction(GATE, WIDE, scale)))
        self.case("ids", ("forward_pre", HookFunction("model.embed_tokens", None, lambda _m, x, _c, _n: x.roll(1, -1))))

    def wrong_ones(self) -> dict[str, Any]:
        return {
            "upstreamGradient": self.upstream_gradient(),
            "editCalls": self.edit_calls(),
            "keywordsEdited": self.moved("forward_pre", HookFunction("model.layers.2.self_attn", None, scale)),
            "wrongShape": self.moved("forward", HookFunction(GATE, (None, None, 999), scale)),
            "unknownGroup": self.moved("forward", HookFunction(GATE, WIDE, scale), groups="nobody"),
            "otherDtype": self.other_dtype(),
            "hookGroup": self.outcome(group_of_gates),
            "parameter": self.outcome(lambda flex: flex.get_module_parameter(f"{GATE}.weight", (512, 128)).shape),
        }

    def moved(self, kind: str, hook: HookFunction, **groups: Any) -> float:
        """How far the hook moves the logits."""
        flex, _ = self.hooked((kind, hook))
        change = float((self.logits(flex, **groups) - self.tensors["clean/logits"]).abs().max())
        if not groups:
            flex.restore()  # after a group was off it raises (F14)
        return change

    def upstream_gradient(self) -> float:
        """Of the logits' sum, at the input of a module whose gathered output is edited."""
        name = "model.layers.3.mlp.gate_proj"
        flex, _ = self.hooked(("forward", HookFunction(name, WIDE, mix)))
        seen: list[Tensor] = []

        def begin(_module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
            seen.append(args[0].detach().requires_grad_())
            return (seen[0],)

        handle = self.model.get_submodule(name).register_forward_pre_hook(begin)
        flex(self.ids, use_cache=False).logits.sum().backward()
        handle.remove()
        flex.restore()
        gradient = seen[0].grad
        return 0.0 if gradient is None else float(gradient.abs().max())

    def edit_calls(self) -> int:
        calls = torch.zeros(1)

        def count(_module: Any, inputs: Tensor, _ctx: Namespace, _modules: Any) -> Tensor:
            calls.add_(1)
            return inputs

        flex, _ = self.hooked(("forward", HookFunction(GATE, WIDE, count)))
        self.logits(flex)
        flex.restore()
        dist.all_reduce(calls)
        return int(calls)

    def other_dtype(self) -> str:
        """The type that the module hands on after an edit that returns another one."""
        flex, _ = self.hooked(("forward", HookFunction(LAYER, None, lambda _m, x, _c, _n: x.double())))
        seen: list[str] = []
        handle = self.model.get_submodule(LAYER).register_forward_hook(
            lambda _m, _a, output: seen.append(str(output.dtype))
        )
        with suppress(RuntimeError):  # the next layer may not take it
            self.logits(flex)
        handle.remove()
        flex.restore()
        return seen[0]

    def outcome(self, call: Callable[[Any], Any]) -> str:
        """What comes back, or the name of what is raised."""
        flex, _ = self.hooked()
        try:
            return str(call(flex))
        except Exception as problem:
            return type(problem).__name__


def group_of_gates(flex: Any) -> int:
    """How many hooks a group by substring has."""
    flex.create_hook_group("gates", "gate_proj", WIDE, mix)
    return len(flex.get_group_hook_functions("gates"))


def main() -> None:
    side = Side(sys.argv[1])
    side.equal_ones()
    wrong = side.wrong_ones()
    if dist.get_rank() == 0:
        save_file({name: value.contiguous() for name, value in side.tensors.items()}, sys.argv[2])
        print(json.dumps(wrong), flush=True)
    dist.barrier()
    os._exit(0)  # its finalisers raise


if __name__ == "__main__":
    main()
