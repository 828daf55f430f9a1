"""The three experiments of docs/how-to/coming-from.md in nnsight; prints their numbers as JSON."""

import json
import sys

from nnsight import LanguageModel
from transformers import AutoModelForCausalLM, AutoTokenizer

path = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(path)
model = LanguageModel(AutoModelForCausalLM.from_pretrained(path), tokenizer=tokenizer)
prompt = "The capital of France is"
paris = tokenizer(" Paris").input_ids[-1]

# read: the residual stream after layer 1, last token
with model.trace(prompt):
    residual = model.model.layers[1].output[0, -1].save()

# edit: without head 7 of layer 2
with model.trace(prompt):
    z = model.model.layers[2].self_attn.o_proj.input
    z[..., 112:128] = 0
    without_head = model.lm_head.output[0, -1, paris].save()

# gradient of the answer's logit at layer 1
with model.trace(prompt):
    hidden = model.model.layers[1].output
    hidden.requires_grad_(True)
    logit = model.lm_head.output[0, -1, paris]
    with logit.backward():
        gradient = hidden.grad.save()

numbers = {
    "residual": residual.norm().item(),
    "withoutHead": without_head.item(),
    "gradient": gradient.norm().item(),
}
print(json.dumps(numbers))
