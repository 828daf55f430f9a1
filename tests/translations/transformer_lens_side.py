"""The three experiments of docs/how-to/coming-from.md in TransformerLens; prints their numbers as JSON."""

import json
import sys

from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

path = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(path)
hf_model = AutoModelForCausalLM.from_pretrained(path)
model = TransformerBridge.boot_transformers(path, hf_model=hf_model, tokenizer=tokenizer, device="cpu")
tokens = tokenizer("The capital of France is", return_tensors="pt").input_ids
paris = tokenizer(" Paris").input_ids[-1]

# read: the residual stream after layer 1, last token
_, cache = model.run_with_cache(tokens, names_filter=["blocks.1.hook_resid_post", "blocks.1.hook_out"])
residual = next(iter(cache.values()))[0, -1]


# edit: without head 7 of layer 2
def without_head(z: Tensor, hook: object) -> Tensor:
    z = z.clone()
    if z.dim() == 4:
        z[:, :, 7] = 0
    else:
        z[..., 112:128] = 0
    return z


logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.2.attn.hook_z", without_head)])

numbers = {"residual": residual.norm().item(), "withoutHead": logits[0, -1, paris].item()}
print(json.dumps(numbers))
