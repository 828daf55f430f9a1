"""nnsight's side of tests/conformance/differential.test.ts, unsharded: `nnsight_side.py MODEL GPT2 OUT`. Writes
tensors of what it gets right, prints as JSON what it does where a user is silently wrong. `GPT2` is a random GPT-2.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from nnsight import LanguageModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

FRANCE, ITALY, SHORT = "The capital of France is", "The capital of Italy is", "The capital of"


def load(path: str) -> tuple[Any, Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return LanguageModel(model, tokenizer=tokenizer), model, tokenizer


def alone(model: Any, tokenizer: Any, prompt: str) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**tokenizer(prompt, return_tensors="pt")).logits[0]
    return logits


def experiments(path: str) -> dict[str, Tensor]:
    nn, _, tokenizer = load(path)
    vector = torch.linspace(-1, 1, 128)
    paris = tokenizer(" Paris").input_ids[-1]
    found: dict[str, Tensor] = {}
    with nn.trace(FRANCE):
        found["clean"] = nn.lm_head.output.save()
    with nn.trace(ITALY):
        kept = nn.model.layers[1].output[:, 3].save()
    with nn.trace(FRANCE):
        nn.model.layers[1].output[:, 3] = kept
        found["patched"] = nn.lm_head.output.save()
    with nn.trace(FRANCE):
        nn.model.layers[2].output += vector
        found["steered"] = nn.lm_head.output.save()
    with nn.trace(FRANCE):
        nn.model.layers[2].self_attn.o_proj.input[..., 112:128] = 0
        found["head"] = nn.lm_head.output.save()
    with nn.trace([FRANCE, SHORT]):
        nn.model.layers[2].output += vector
        ragged = nn.lm_head.output.save()
    found["ragged/0"], found["ragged/1"] = ragged[0], ragged[1, -len(tokenizer(SHORT).input_ids) :]  # padded left
    with nn.trace(FRANCE):
        hidden = nn.model.layers[1].output
        hidden.requires_grad_(True)
        nn.model.layers[2].output = nn.model.layers[2].output * 1.5
        logit = nn.lm_head.output[0, -1, paris]
        with logit.backward():
            found["gradient"] = hidden.grad.save()
    with nn.generate(FRANCE, max_new_tokens=5, do_sample=False) as tracer:
        tokens = [].save()  # type: ignore[attr-defined] # nnsight gives every object one
        for _step in tracer.iter[0:5]:
            nn.model.layers[1].output += vector
            tokens.append(nn.lm_head.output[0, -1].argmax().item())
    found["generated"] = torch.tensor(tokens, dtype=torch.float32)
    return found


def padded_gpt2(path: str) -> dict[str, Tensor]:
    """Learned positions: padding that counts as tokens shows at once."""
    nn, _, _ = load(path)
    with nn.trace(["w5 w9 w31 w4 w17", "w7 w3"]):
        batch = nn.lm_head.output.save()
    return {"gpt2/0": batch[0], "gpt2/1": batch[1, -2:]}


def silently_wrong(path: str) -> dict[str, Any]:
    nn, model, tokenizer = load(path)
    with nn.trace([FRANCE, ITALY]):
        nn.model.layers[2].output[0] += 1  # steered, as code for older releases of transformers writes it
        steered = nn.lm_head.output.save()
    rows = [
        float((steered[row] - alone(model, tokenizer, text)).abs().max()) for row, text in enumerate((FRANCE, ITALY))
    ]
    with nn.trace(FRANCE):
        saved = nn.model.layers[1].output.save()
        nn.model.layers[1].output[:] = 0
    return {"firstOutputRows": rows, "savedThenZeroed": float(saved.abs().max())}


def main() -> None:
    found = experiments(sys.argv[1]) | padded_gpt2(sys.argv[2])
    save_file({name: value.detach().contiguous() for name, value in found.items()}, sys.argv[3])
    print(json.dumps(silently_wrong(sys.argv[1])))


if __name__ == "__main__":
    main()
