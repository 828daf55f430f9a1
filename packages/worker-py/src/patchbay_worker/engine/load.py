"""Loads one rank's shard of a checkpoint and finds the layout of every site; a directory and a hub name alike.

Not here: what is served about the model (describe.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils.logging import disable_progress_bar

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.world import World
from patchbay_worker.errors import error
from patchbay_worker.sharding.divisibility import check_shardable
from patchbay_worker.sharding.layout import SiteTable
from patchbay_worker.sharding.probe import Checksum, Probe, probe_forward
from patchbay_worker.sharding.shard_plan import PROBE_SIZES, Measured, ProbeSize, make_sites


@dataclass(frozen=True)
class LoadedModel:
    """`tokenizer` is None for checkpoints without one. `takes` are the keywords of the model's forward."""

    model: Any
    config: Any
    tokenizer: Any | None
    sites: SiteTable
    modules: Mapping[str, nn.Module]
    takes: frozenset[str]
    parameter_names: frozenset[str]

    @cached_property
    def module_names(self) -> tuple[str, ...]:
        return tuple(self.modules)

    @property
    def text_config(self) -> Any:
        """The language model's part of the config, also in models that take other things than text."""
        return self.config.get_text_config()

    def forward(self, **inputs: Any) -> Any:
        """Calls the model with the keywords it knows; some families derive positions from the mask."""
        return self.model(**{key: value for key, value in inputs.items() if key in self.takes})


def load_model(config: EngineConfig, world: World) -> LoadedModel:
    """Every rank calls it; refusals come before any weight is read."""
    disable_progress_bar()  # logs are not terminals
    local = Path(config.model_path).is_dir()
    try:
        hf_config = AutoConfig.from_pretrained(config.model_path, local_files_only=local)
    except (OSError, ValueError) as failure:
        raise error("PB_MODEL_LOAD_FAILED", model=config.model_path, reason=str(failure)) from failure
    skeleton = _skeleton(config, hf_config)
    check_shardable(config.name, skeleton.tp_plan if skeleton is not None else {}, hf_config, config.tp)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            config.model_path,
            local_files_only=local,
            dtype=getattr(torch, config.dtype),
            distributed_config=DistributedConfig(tp_size=config.tp) if config.tp > 1 else None,
        )
    except (OSError, ValueError, RuntimeError) as failure:
        raise error("PB_MODEL_LOAD_FAILED", model=config.model_path, reason=str(failure)) from failure
    model.eval().requires_grad_(False)
    if config.tp == 1:
        model.to(world.device)
    takes = frozenset(inspect.signature(model.forward).parameters)
    sites = SiteTable(make_sites(model, _measure(model, skeleton, takes, world)))
    modules = {name: module for name, module in model.named_modules() if name}
    parameters = frozenset(name for name, _ in model.named_parameters())
    return LoadedModel(model, model.config, _tokenizer(config.model_path, local), sites, modules, takes, parameters)


def _tokenizer(path: str, local: bool) -> Any | None:
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=local)
    except (OSError, ValueError, KeyError):
        return None  # token ids still work; text is refused with PB_TOKENIZER_MISSING


def _skeleton(config: EngineConfig, hf_config: Any) -> Any | None:
    """The unsharded model without weights: its plan and full shapes. Eager attention asks no mask for its values."""
    if config.tp == 1:
        return None
    with torch.device("meta"):
        skeleton: Any = AutoModelForCausalLM.from_config(hf_config, attn_implementation="eager")
    skeleton.config._experts_implementation = "batched_mm"  # the others route by the values of the scores
    return skeleton.eval()


def _probe_inputs(size: ProbeSize, vocabulary: int, device: torch.device) -> dict[str, Tensor]:
    """Varied tokens, the last row one shorter, so that masks take the shape they have in ragged batches."""
    count = size.batch * size.sequence
    ids = (torch.arange(count, device=device) * 7 + 3) % vocabulary
    mask = torch.ones(size.batch, size.sequence, dtype=torch.int64, device=device)
    if not mask.is_meta:
        mask[-1, -1] = 0
    positions = torch.arange(size.sequence, device=device).repeat(size.batch, 1)
    return {"input_ids": ids.view(size.batch, -1), "attention_mask": mask, "position_ids": positions}


def _probe(model: Any, takes: frozenset[str], size: ProbeSize, device: torch.device) -> Probe:
    inputs = _probe_inputs(size, model.config.get_text_config().vocab_size, device)
    known = {key: value for key, value in inputs.items() if key in takes}
    with torch.no_grad():
        return probe_forward(model, lambda: model(**known, use_cache=False))


def _measure(model: Any, skeleton: Any | None, takes: frozenset[str], world: World) -> Measured:
    small, large = (_probe(model, takes, size, world.device) for size in PROBE_SIZES)
    full = None
    if skeleton is not None:
        try:
            full = _probe(skeleton, takes, PROBE_SIZES[0], torch.device("meta"))
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            full = None  # data-dependent architectures: only what the weights themselves say is trusted
    return Measured(small, large, full, _share_checksums(small, world), world.size)


def _share_checksums(probe: Probe, world: World) -> list[list[Checksum]]:
    mine = [leaf.checksum for leaves in probe.leaves.values() for leaf in leaves]
    table = torch.tensor(mine, dtype=torch.float64, device=world.device)
    return [[(a, b, c) for a, b, c in rank.tolist()] for rank in world.all_gather(table)]
