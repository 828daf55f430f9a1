"""Finds the layout of every site of a loaded model: probes of the real ranks, full shapes from a model without weights,
and what the other pipeline stages found. Not here: what a layout means (sharding/shard_plan.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer

from patchbay_worker.engine.world import World
from patchbay_worker.sharding.checksum import Checksum
from patchbay_worker.sharding.layout import Layout, Site, SiteTable
from patchbay_worker.sharding.probe import Probe, probe_forward
from patchbay_worker.sharding.shard_plan import PROBE_SIZES, Measured, ProbeSize, make_sites

EVERYWHERE = Layout("unknown", reason="it runs on more than one pipeline stage")


def find_sites(model: Any, skeleton: Any | None, takes: frozenset[str], world: World) -> SiteTable:
    """Every rank calls it; all get the same table. `skeleton` is the whole model on the meta device."""
    sites = make_sites(model, _measure(model, skeleton, takes, world))
    if world.mesh.pp == 1:
        return SiteTable(sites)
    assert skeleton is not None, "pipelines are planned on the skeleton"
    by_stage = [_of_stage(sites, stage, world) for stage in range(world.mesh.pp)]
    return SiteTable(_merged(by_stage, [name for name, _ in skeleton.named_modules()]))


def _of_stage(own: Sequence[Site], stage: int, world: World) -> list[Site]:
    source = world.mesh.rank(stage)
    data = json.dumps([asdict(site) for site in own]).encode() if world.rank == source else None
    found = json.loads(world.share_bytes(data, source))
    return [
        Site(**{**each, "shape": tuple(each["shape"]), "layout": Layout(**each["layout"]), "stage": stage})
        for each in found
    ]


def _merged(by_stage: Sequence[Sequence[Site]], order: Sequence[str]) -> list[Site]:
    """In module order. Where stages would have to agree on an edit there is none."""
    owners: dict[str, set[int]] = {}
    for site in (site for sites in by_stage for site in sites):
        owners.setdefault(site.module, set()).add(site.stage)
    merged = [
        site if len(owners[site.module]) == 1 else replace(site, layout=EVERYWHERE)
        for sites in by_stage
        for site in sites
        if site.stage == min(owners[site.module])
    ]
    position = {name: index for index, name in enumerate(order)}
    return sorted(merged, key=lambda site: position[site.module])


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
        # What another stage owns is only an identity here; its hooks would still fire.
        return probe_forward(model, lambda: model(**known, use_cache=False), skip=PipelineIdentityLayer)


def _measure(model: Any, skeleton: Any | None, takes: frozenset[str], world: World) -> Measured:
    small, large = (_probe(model, takes, size, world.device) for size in PROBE_SIZES)
    full = None
    if skeleton is not None:
        try:
            full = _probe(skeleton, takes, PROBE_SIZES[0], torch.device("meta"))
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            full = None  # data-dependent architectures: only what the weights themselves say is trusted
    return Measured(small, large, full, _share_checksums(small, world), world.mesh.tp)


def _share_checksums(probe: Probe, world: World) -> list[list[Checksum]]:
    mine = [leaf.checksum for leaves in probe.leaves.values() for leaf in leaves]
    table = torch.tensor(mine, dtype=torch.float64, device=world.device)
    return [[(a, b, c) for a, b, c in rank.tolist()] for rank in world.gather_tp(table)]
