"""Full parameters by name. Every rank of the owning stage takes part in putting the shards together; the home rank
keeps the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchbay_worker.engine.load import LoadedModel
from patchbay_worker.engine.world import World
from patchbay_worker.sharding.parameters import full_value


def gather_parameters(loaded: LoadedModel, names: Sequence[str], world: World) -> dict[str, Tensor]:
    gathered = {}
    for name in names:
        facts = loaded.parameters[name]
        full = full_value(loaded.model.get_parameter(name)) if facts.stage == world.stage else None
        like = torch.empty(facts.shape, dtype=facts.dtype, device="meta")
        home = world.send_home(full, world.mesh.rank(facts.stage), like)
        if home is not None:
            gathered[name] = home.detach().cpu().clone()
    return gathered
