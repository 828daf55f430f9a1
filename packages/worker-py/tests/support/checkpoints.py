"""Random-weight checkpoints of several architectures on disk: 2-4 layers, width 64, 128 words. No download.

Weights are drawn wider than usual, so that an edit of any layer moves the logits by far more than rounding does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.glm4.configuration_glm4 import Glm4Config
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt_neox.configuration_gpt_neox import GPTNeoXConfig
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mixtral.configuration_mixtral import MixtralConfig
from transformers.models.olmo.configuration_olmo import OlmoConfig
from transformers.models.olmo2.configuration_olmo2 import Olmo2Config
from transformers.models.opt.configuration_opt import OPTConfig
from transformers.models.phi3.configuration_phi3 import Phi3Config
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3_moe.configuration_qwen3_moe import Qwen3MoeConfig

VOCABULARY = 128
POSITIONS = 64
UNKNOWN, PAD, END = 0, 1, 2
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "tie_word_embeddings": False,
}
LLAMA_LIKE: dict[str, Any] = {
    **COMMON,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": POSITIONS,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**{**LLAMA_LIKE, "num_hidden_layers": 4}),
    "mistral": lambda: MistralConfig(**LLAMA_LIKE, sliding_window=16),
    "mixtral": lambda: MixtralConfig(**LLAMA_LIKE, num_local_experts=4),
    "qwen3": lambda: Qwen3Config(**LLAMA_LIKE, head_dim=8),
    "qwen3_moe": lambda: Qwen3MoeConfig(**LLAMA_LIKE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64),
    "gemma3": lambda: Gemma3TextConfig(
        **{**LLAMA_LIKE, "tie_word_embeddings": True}, head_dim=8, sliding_window=16, query_pre_attn_scalar=8
    ),
    "glm4": lambda: Glm4Config(**LLAMA_LIKE, head_dim=8),
    "olmo": lambda: OlmoConfig(**LLAMA_LIKE),
    "olmo2": lambda: Olmo2Config(**LLAMA_LIKE),
    "tied llama": lambda: LlamaConfig(**{**LLAMA_LIKE, "tie_word_embeddings": True}),
    "phi3": lambda: Phi3Config(**LLAMA_LIKE),
    "gpt_neox": lambda: GPTNeoXConfig(**{key: v for key, v in LLAMA_LIKE.items() if key != "num_key_value_heads"}),
    "gpt2": lambda: GPT2Config(**COMMON, n_embd=64, n_layer=2, n_head=8, n_positions=POSITIONS),
    "opt": lambda: OPTConfig(
        **{key: v for key, v in COMMON.items() if key != "initializer_range"},
        init_std=0.15,
        hidden_size=64,
        word_embed_proj_dim=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        max_position_embeddings=POSITIONS,
    ),
}


def make_checkpoint(folder: Path, family: str, **changes: Any) -> Path:
    """Writes weights and a word-level tokenizer ("w3 w4 ...") and returns the folder. `changes` go into the config."""
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    special = ["<unk>", "<pad>", "<eos>"]
    words = special + [f"w{index}" for index in range(len(special), VOCABULARY)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
    )
