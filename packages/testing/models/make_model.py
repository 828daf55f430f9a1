"""Writes a tiny model with random weights that depend on the seed alone: the same files on every call.

Not trained, so that it is made in a second and knows nothing: for tests of scripts, not of models.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, PretrainedConfig

SIZES = {"vocab_size": 64, "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": None}


def config_of(family: str, layers: int, width: int) -> PretrainedConfig:
    """Heads of 8 features, half as many key-value heads: it can be sharded over 2 and 4 ranks."""
    heads: dict[str, Any] = {"num_attention_heads": width // 8, "num_key_value_heads": max(1, width // 16)}
    common = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, **heads, **SIZES}
    if family == "llama":
        return LlamaConfig(**common)
    if family == "mixtral":
        return MixtralConfig(**common, num_local_experts=4, num_experts_per_tok=2)
    return GPT2Config(
        n_embd=width,
        n_layer=layers,
        n_head=width // 8,
        n_positions=64,
        vocab_size=64,
        bos_token_id=None,
        eos_token_id=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=("llama", "mixtral", "gpt2"), default="llama")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = AutoModelForCausalLM.from_config(config_of(args.family, args.layers, args.width), dtype=torch.float32)
    with torch.no_grad():  # the usual 0.02 makes a model whose logits hardly depend on its inputs
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5 if "embed" in name or "wte" in name else 0.5 / parameter.shape[-1] ** 0.5)
    model.save_pretrained(args.folder)


if __name__ == "__main__":
    main()
