"""The three experiments of docs/how-to/coming-from.md in FlexModel, on one rank; prints their numbers as JSON.

PATCHBAY_FLEXMODEL is a checkout of VectorInstitute/flex_model.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, os.environ["PATCHBAY_FLEXMODEL"])
from flex_model.core import FlexModel, HookFunction

path = sys.argv[1]
rendezvous = Path(tempfile.mkdtemp()) / "store"
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
tokenizer = AutoTokenizer.from_pretrained(path)
prompt = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
paris = tokenizer(" Paris").input_ids[-1]


def wrapped(output: dict[str, Any]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(path)
    return FlexModel(model, output, tensor_parallel_size=1, process_group=dist.group.WORLD)


def without_head(_module: Any, inputs: torch.Tensor, _save_ctx: Any, _modules: Any) -> torch.Tensor:
    inputs = inputs.clone()
    inputs[..., 112:128] = 0
    return inputs


# read: the residual stream after layer 1, last token
read: dict[str, Any] = {}
model = wrapped(read)
model.register_forward_hook(HookFunction("model.layers.1", (None, None, 128)))
# gradient of the answer's logit at layer 1
model.register_full_backward_pre_hook(HookFunction("model.layers.1", (None, None, 128)))
model(prompt).logits[0, -1, paris].backward()

# edit: without head 7 of layer 2
edited = wrapped({})
edited.register_forward_pre_hook(HookFunction("model.layers.2.self_attn.o_proj", (None, None, 128), without_head))
with torch.no_grad():
    logit = edited(prompt).logits[0, -1, paris]

residual, gradient = read["model.layers.1"]
numbers = {
    "residual": residual[0, -1].norm().item(),
    "withoutHead": logit.item(),
    "gradient": gradient.norm().item(),
}
print(json.dumps(numbers))
dist.destroy_process_group()
