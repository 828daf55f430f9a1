"""Loads one rank's shard of a checkpoint; a directory and a hub name alike.

Not here: the layout of its sites (sites.py), what is served about the model (describe.py).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoTokenizer,
)
from transformers.distributed import mixin
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer
from transformers.utils.logging import disable_progress_bar

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.load_progress import OnWeights, weights_told
from patchbay_worker.engine.memory import MemoryUse, check_memory, free_the_rest, measure
from patchbay_worker.engine.pipeline.stage import Stage, check_stages_add_nothing
from patchbay_worker.engine.pipeline.stage_cache import StageCache
from patchbay_worker.engine.sites import find_sites
from patchbay_worker.engine.world import World
from patchbay_worker.errors import error
from patchbay_worker.sharding.divisibility import check_experts, check_fsdp, check_shardable, check_stages
from patchbay_worker.sharding.fsdp import free_weights
from patchbay_worker.sharding.layout import SiteTable


@dataclass(frozen=True)
class ParameterFacts:
    """Of the full parameter; `stage` is the first pipeline stage that holds it, `tied` that another one uses it too."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stage: int
    tied: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """`tokenizer` is None for checkpoints without one. `takes` are the keywords of the model's forward.

    `modules` and `parameters` are those of the whole model; what another stage owns has no weights here.
    """

    model: Any
    config: Any
    tokenizer: Any | None
    sites: SiteTable
    modules: Mapping[str, nn.Module]
    parameters: Mapping[str, ParameterFacts]
    takes: frozenset[str]
    pipeline: Stage | None
    memory: MemoryUse

    @cached_property
    def module_names(self) -> tuple[str, ...]:
        return tuple(self.modules)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    @property
    def text_config(self) -> Any:
        """The language model's part of the config, also in models that take other things than text."""
        return self.config.get_text_config()

    def forward(self, **inputs: Any) -> Any:
        """Calls the model with the keywords it knows; some families derive positions from the mask."""
        return self.model(**{key: value for key, value in inputs.items() if key in self.takes})

    def new_cache(self) -> StageCache | None:
        """For a generation; None where the model's own is right."""
        return StageCache(self.model) if self.pipeline is not None else None

    def own_parameter(self, name: str) -> nn.Parameter | None:
        """This stage's; None where another has it."""
        found: nn.Parameter | None = dict(self.model.named_parameters()).get(name)
        return found


def load_model(config: EngineConfig, world: World, on_weights: OnWeights = lambda _: None) -> LoadedModel:
    """Every rank calls it; refusals come before any weight is read."""
    disable_progress_bar()  # logs are not terminals
    local = Path(config.model_path).is_dir()
    try:
        hf_config = AutoConfig.from_pretrained(config.model_path, local_files_only=local)
    except (OSError, ValueError) as failure:
        raise error("PB_MODEL_LOAD_FAILED", model=config.model_path, reason=str(failure)) from failure
    skeleton = _skeleton(config, hf_config)
    if skeleton is not None:
        _check_plans(config, skeleton, hf_config)
    needed = check_memory(config, world, hf_config, skeleton)
    with weights_told(on_weights):
        model = _read_shard(config, hf_config, local)
    model.eval().requires_grad_(False)
    free_the_rest(model)
    if not _is_distributed(config):
        model.to(world.device)
    pipeline = None
    if config.pp > 1:
        check_stages_add_nothing(model, config.name, world)
        pipeline = model._pp_stage = Stage(model._pp_stage)
    takes = frozenset(inspect.signature(model.forward).parameters)
    sites = find_sites(model, skeleton, takes, world)
    free_weights(model)
    return LoadedModel(
        model,
        model.config,
        _tokenizer(config.model_path, local),
        sites,
        _modules(model, skeleton if config.pp > 1 else None),
        _parameters(model, skeleton if config.pp > 1 else None, world),
        takes,
        pipeline,
        measure(needed, model, world.device),
    )


def _is_distributed(config: EngineConfig) -> bool:
    """Whether transformers has anything to divide; plain copies are ours."""
    return config.fsdp or config.tp * config.pp > 1


def _check_plans(config: EngineConfig, skeleton: Any, hf_config: Any) -> None:
    """transformers loads an architecture without a plan silently undivided."""
    if config.experts:
        check_experts(config.name, skeleton._ep_plan, hf_config, config.tp)
    else:
        check_shardable(config.name, skeleton.tp_plan, hf_config, config.tp)
    check_stages(config.name, skeleton.pp_plan, hf_config, config.pp)
    if config.fsdp:
        check_fsdp(config.name, skeleton.fsdp_plan, hf_config)


def auto_class(path: str, hf_config: Any) -> Any:
    """What gives logits for tokens: the kind that the checkpoint was saved as, else the first that there is."""
    kinds: tuple[Any, ...] = (AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForImageTextToText)
    served = [kind for kind in kinds if type(hf_config) in kind._model_mapping]
    if not served:
        reason = f"{hf_config.model_type} is neither a causal nor a masked language model, nor one of images and text"
        raise error("PB_MODEL_LOAD_FAILED", model=path, reason=reason)
    saved = set(hf_config.architectures or ())
    named = [kind for kind in served if getattr(kind._model_mapping[type(hf_config)], "__name__", None) in saved]
    return (named or served)[0]


def _read_shard(config: EngineConfig, hf_config: Any, local: bool) -> Any:
    distributed = None
    if _is_distributed(config):
        distributed = DistributedConfig(
            tp_size=config.tp,
            pp_size=config.pp,
            fsdp_size=config.dp if config.fsdp else 1,
            enable_expert_parallel=config.experts,
        )
    try:
        with _mesh_of_one_copy(config):
            model, told = auto_class(config.model_path, hf_config).from_pretrained(
                config.model_path,
                local_files_only=local,
                dtype=getattr(torch, config.dtype),
                distributed_config=distributed,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as failure:
        raise error("PB_MODEL_LOAD_FAILED", model=config.model_path, reason=str(failure)) from failure
    if told["missing_keys"]:
        # transformers would draw them at random and say so in a log only.
        lacking = ", ".join(sorted(told["missing_keys"])[:5])
        reason = f"the checkpoint lacks {len(told['missing_keys'])} weights of {type(model).__name__}: {lacking}"
        raise error("PB_MODEL_LOAD_FAILED", model=config.model_path, reason=reason)
    return model


@contextmanager
def _mesh_of_one_copy(config: EngineConfig) -> Iterator[None]:
    """transformers has no copies: it wants its mesh to be the whole world, so it is handed this copy's part of ours."""
    if config.dp == 1 or config.tp == 1 or config.fsdp:
        yield
        return
    whole = init_device_mesh(config.device, (config.dp, config.tp), mesh_dim_names=("dp", "tp"))
    ours = (torch.device(config.device), whole["tp"])
    with patch.object(mixin, "initialize_distributed_mesh", lambda _config: ours):
        yield


def _modules(model: Any, skeleton: Any | None) -> dict[str, nn.Module]:
    own = {
        name: module for name, module in model.named_modules() if name and not isinstance(module, PipelineIdentityLayer)
    }
    if skeleton is None:
        return own
    return {name: own.get(name, module) for name, module in skeleton.named_modules() if name}


def _parameters(model: Any, skeleton: Any | None, world: World) -> dict[str, ParameterFacts]:
    """Of all stages, in the order of the stages."""
    own = {name: [list(value.shape), str(value.dtype)] for name, value in model.named_parameters()}
    tied = {name for pair in skeleton.all_tied_weights_keys.items() for name in pair} if skeleton is not None else ()
    found: dict[str, ParameterFacts] = {}
    for stage in range(world.mesh.pp):
        source = world.mesh.rank(stage)
        told = own
        if world.mesh.pp > 1:
            told = json.loads(world.share_bytes(json.dumps(own).encode() if world.rank == source else None, source))
        for name, (shape, dtype) in told.items():
            plain = getattr(torch, str(dtype).removeprefix("torch."))
            found.setdefault(name, ParameterFacts(tuple(shape), plain, stage, name in tied))
    return found


def _tokenizer(path: str, local: bool) -> Any | None:
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=local)
    except (OSError, ValueError, KeyError):
        return None  # token ids still work; text is refused with PB_TOKENIZER_MISSING


def _skeleton(config: EngineConfig, hf_config: Any) -> Any | None:
    """The unsharded model without weights: its plans and full shapes. Eager attention asks no mask for its values."""
    if not _is_distributed(config):
        return None
    with torch.device("meta"):
        skeleton: Any = auto_class(config.model_path, hf_config).from_config(hf_config, attn_implementation="eager")
    skeleton.config._experts_implementation = "batched_mm"  # the others route by the values of the scores
    return skeleton.eval()
