"""`modules`: builds the modules that a job's edits can call. Not here: training them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from patchbay_worker.sandbox.job.user_code import Refusal, load_function

ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class JobModules(nn.ModuleDict):
    """A ModuleDict that also takes names with dots or of its own methods."""

    def __setitem__(self, name: str, module: nn.Module) -> None:
        self._modules[name] = module


def build_module(name: str, kind: str, options: dict[str, Any], trainable: bool) -> nn.Module:
    """One module with torch's own initial values, in float32, drawn from the RNG as it stands."""
    module = _build(name, kind, options)
    if not isinstance(module, nn.Module):
        raise Refusal("returned", type=f"{type(module).__qualname__} (build() must return a torch.nn.Module)")
    return module.requires_grad_(trainable)


def _build(name: str, kind: str, options: dict[str, Any]) -> Any:
    if kind == "linear":
        return nn.Linear(options["inFeatures"], options["outFeatures"], bias=options.get("bias", True))
    if kind == "lowRank":
        return nn.Sequential(
            nn.Linear(options["inFeatures"], options["rank"], bias=options.get("bias", False)),
            nn.Linear(options["rank"], options["outFeatures"], bias=options.get("bias", False)),
        )
    if kind == "mlp":
        return nn.Sequential(
            nn.Linear(options["inFeatures"], options["hiddenFeatures"]),
            ACTIVATIONS[options.get("activation", "gelu")](),
            nn.Linear(options["hiddenFeatures"], options["outFeatures"]),
        )
    if kind == "python":
        build = load_function(f"module {name}", options["source"], "build", 0)
        with torch.enable_grad():  # parameters made by hand take requires_grad from the mode
            return build()
    raise ValueError(f"unknown kind of module: {kind}")
