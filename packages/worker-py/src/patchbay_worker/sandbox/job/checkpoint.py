"""What a training run needs to go on where it was: parameters, the optimiser's state, the random generators.

All of it as named tensors, so that nothing has to be unpickled. Not in it: `save_ctx`, which may hold anything.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

MODULE, STATE, RNG = "module.", "optimizer.", "rng."


def take(modules: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = {MODULE + name: value.detach() for name, value in modules.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        named |= {f"{STATE}{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    return {name: value.clone() for name, value in {**named, **_generators()}.items()}


def put_back(saved: Mapping[str, Tensor], modules: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> None:
    modules.load_state_dict(_below(MODULE, saved))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(STATE, saved).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    _set_generators(_below(RNG, saved))


def _below(prefix: str, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)}


def _generators() -> dict[str, Tensor]:
    legacy: Any = numpy.random.get_state(legacy=True)
    _, words, position, has_gauss, gauss = legacy
    _, numbers, python_gauss = random.getstate()
    return {
        RNG + "torch": torch.default_generator.get_state(),
        RNG + "numpy": torch.tensor([*words.tolist(), position, has_gauss]),
        RNG + "python": torch.tensor(numbers),
        RNG + "gauss": torch.tensor(
            [gauss, float("nan") if python_gauss is None else python_gauss], dtype=torch.float64
        ),
    }


def _set_generators(saved: Mapping[str, Tensor]) -> None:
    torch.default_generator.set_state(saved["torch"])
    *words, position, has_gauss = saved["numpy"].tolist()
    gauss, python_gauss = saved["gauss"].tolist()
    numpy.random.set_state(("MT19937", numpy.array(words, dtype=numpy.uint32), position, has_gauss, gauss))
    random.setstate((3, tuple(saved["python"].tolist()), None if python_gauss != python_gauss else python_gauss))
