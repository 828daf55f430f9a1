"""Sizes that a mesh has to divide, and models without a plan. Checked before weights load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchbay_worker.errors import error

# Names of one size in the configs of different families.
SIZES = {
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "num_key_value_heads": ("num_key_value_heads",),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
    "moe_intermediate_size": ("moe_intermediate_size",),
    "vocab_size": ("vocab_size",),
}


def check_shardable(model: str, plan: Mapping[str, str], config: Any, tp: int) -> None:
    """Refuses tp > 1 without a plan (it would load silently replicated), and sizes that die inside a view."""
    if tp == 1:
        return
    if not plan:
        reason = f"the architecture {config.model_type} has no tensor parallel plan"
        raise error("PB_NOT_SHARDABLE", module=model, reason=reason, hint="Deploy it with tp 1.")
    for names in SIZES.values():
        for name in names:
            size = getattr(config, name, None)
            if isinstance(size, int) and size % tp != 0:
                raise error("PB_NOT_DIVISIBLE", field=name, size=size, tp=tp)


def check_experts(model: str, plan: Mapping[str, str], config: Any, ranks: int) -> None:
    """Refuses expert parallelism without a plan, and experts that the ranks do not divide."""
    if not plan:
        reason = f"the architecture {config.model_type} has no expert parallel plan"
        raise error("PB_NOT_SHARDABLE", module=model, reason=reason, hint="Deploy it without expert parallelism.")
    experts = config.get_text_config().num_experts
    if experts % ranks != 0:
        raise error("PB_NOT_DIVISIBLE", field="num_experts", size=experts, tp=ranks)


def check_fsdp(model: str, plan: Mapping[str, str], config: Any) -> None:
    if not plan:
        reason = f"the architecture {config.model_type} has no FSDP plan"
        raise error("PB_NOT_SHARDABLE", module=model, reason=reason, hint="Deploy it with dp in place of fsdp.")


def check_stages(model: str, plan: Mapping[str, object], config: Any, pp: int) -> None:
    """Refuses pp > 1 without a plan and stages without a layer."""
    if pp == 1:
        return
    if not plan:
        reason = f"the architecture {config.model_type} has no pipeline plan"
        raise error("PB_NOT_SHARDABLE", module=model, reason=reason, hint="Deploy it with pp 1.")
    layers = config.get_text_config().num_hidden_layers
    if layers < pp:
        reason = f"{layers} layers cannot be divided into {pp} stages"
        raise error("PB_NOT_SHARDABLE", module=model, reason=reason, hint=f"Deploy it with pp {layers} or less.")
