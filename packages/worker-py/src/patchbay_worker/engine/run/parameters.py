"""Full parameters by name. Every rank of the owning stage takes part in putting the shards together; the home rank
keeps the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchbay_worker.engine.job.job_spec import ParameterRequest
from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.engine.world import World
from patchbay_worker.sharding.parameters import full_value


def gather_parameters(
    loaded: LoadedModel, wanted: Sequence[ParameterRequest], world: World
) -> dict[ParameterRequest, Tensor]:
    gathered: dict[ParameterRequest, Tensor] = {}
    for each in wanted:
        facts = loaded.parameters[each.name]
        part = tuple(slice(None) if ends is None else slice(*ends) for ends in each.slice)
        full = full_value(loaded.model.get_parameter(each.name))[part] if facts.stage == world.stage else None
        like = torch.empty(facts.shape, dtype=facts.dtype, device="meta")[part]
        home = world.send_home(full, world.mesh.rank(facts.stage), like)
        if home is not None:
            gathered[each] = home.detach().cpu().clone()
    return gathered
