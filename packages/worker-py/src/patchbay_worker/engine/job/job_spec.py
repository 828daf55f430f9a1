"""The job document as typed values. Its form was checked and its defaults filled by patchbay_worker.contract; what
depends on a model is checked in compile_job.py. Not here: any check, any default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from patchbay_worker.hooks.graph.graph import Graph
from patchbay_worker.hooks.graph.read import read_graph
from patchbay_worker.hooks.groups import ALL, HookSelection
from patchbay_worker.hooks.spec import HookType, Span, Where
from patchbay_worker.sandbox.limits import limits_of

Json = Mapping[str, Any]


@dataclass(frozen=True)
class EditSpec:
    """A python edit or loss: text, or {"artifact": digest} to fetch. `name` is the hook's, for messages."""

    name: str
    source: str | Json
    entry: str
    path: str
    arguments: int = 4


@dataclass(frozen=True)
class HookRequest:
    """A hook before it is held against a model."""

    name: str
    path: str
    module: str
    hook_type: HookType
    expected_shape: tuple[int | None, ...] | None
    unpack_idx: int
    edit: EditSpec | None
    graph: Graph | None
    save: Literal["pre", "post", "none"]
    where: Where | None
    groups: frozenset[str]
    dp_dim: int | None
    dtype: str | None


@dataclass(frozen=True)
class ParameterRequest:
    """`slice` has `(from, to)` or None for each of the first dims."""

    name: str
    path: str
    slice: tuple[tuple[int, int] | None, ...] = ()

    @property
    def key(self) -> str:
        """In the file of parameters."""
        if not self.slice:
            return self.name
        return f"{self.name}[{','.join(':' if part is None else f'{part[0]}:{part[1]}' for part in self.slice)}]"


@dataclass(frozen=True)
class Sampling:
    """Of a generating run; temperature 0 takes the most probable token."""

    max_new_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Train:
    """Of a training run; `optimizer` as in the document."""

    steps: int
    optimizer: Json
    checkpoint_every: int | None = None


@dataclass(frozen=True)
class RunRequest:
    """`sampling` is there for `generate` only, `loss` for `backward` and `train`."""

    name: str
    path: str
    mode: str
    inputs: Json
    hooks: HookSelection
    logits: Literal["none", "last", "all"]
    top_k: int
    sampling: Sampling | None
    loss: Json | None = None
    train: Train | None = None


@dataclass(frozen=True)
class ModuleRequest:
    name: str
    kind: Literal["linear", "lowRank", "mlp", "python"]
    options: Json
    trainable: bool


@dataclass(frozen=True)
class JobRequest:
    seed: int
    timeout_s: float
    limits: Json
    modules: tuple[ModuleRequest, ...]
    hooks: tuple[HookRequest, ...]
    runs: tuple[RunRequest, ...]
    parameters: tuple[ParameterRequest, ...]


def read_job(document: Json) -> JobRequest:
    """`document` comes from contract.parse_document: every field that has a default is there."""
    limits = document["limits"]
    return JobRequest(
        seed=document["seed"],
        timeout_s=limits_of(limits, {}).job_timeout_s,
        limits=limits,
        modules=tuple(_module(name, value) for name, value in document["modules"].items()),
        hooks=tuple(_hook(index, value) for index, value in enumerate(document["hooks"])),
        runs=tuple(_run(index, value) for index, value in enumerate(document["runs"])),
        parameters=tuple(_parameter(index, value) for index, value in enumerate(document["return"]["parameters"])),
    )


def _parameter(index: int, value: str | Json) -> ParameterRequest:
    path = f"return.parameters[{index}]"
    if isinstance(value, str):
        return ParameterRequest(value, path)
    parts = tuple((part[0], part[1]) if part is not None else None for part in value["slice"])
    return ParameterRequest(value["name"], path, parts)


def _module(name: str, value: Json) -> ModuleRequest:
    options = {key: option for key, option in value.items() if key not in ("kind", "trainable")}
    return ModuleRequest(name, value["kind"], options, value["trainable"])


def _hook(index: int, value: Json) -> HookRequest:
    edit, name = value["edit"], value["name"]
    expected, path = value["expectedShape"], f"hooks[{index}]"
    return HookRequest(
        name=name,
        path=path,
        module=value["moduleName"],
        hook_type=value["hookType"],
        expected_shape=tuple(expected) if expected is not None else None,
        unpack_idx=value["unpackIdx"],
        edit=EditSpec(name, edit["source"], edit["entry"], f"{path}.edit") if edit["kind"] == "python" else None,
        graph=read_graph(name, f"{path}.edit", edit) if edit["kind"] == "graph" else None,
        save=value["save"],
        where=_where(value.get("where")),
        groups=frozenset(value["groups"]),
        dp_dim=value.get("dpDim"),
        dtype=value.get("dtype"),
    )


def _where(value: Json | None) -> Where | None:
    if not value:
        return None
    positions = value.get("positions")
    span = Span(positions.get("from"), positions.get("to")) if isinstance(positions, Mapping) else None
    return Where(
        rows=_ints(value.get("rows")),
        positions=span or _ints(positions),
        steps=_ints(value.get("steps")),
    )


def _ints(values: list[int] | None) -> tuple[int, ...] | None:
    return tuple(values) if values is not None else None


def _run(index: int, value: Json) -> RunRequest:
    generates = value["mode"] == "generate"
    wanted = value.get("return", {"logits": "none", "topK": 0})  # a training run has none
    return RunRequest(
        name=value["name"],
        path=f"runs[{index}]",
        mode=value["mode"],
        inputs=value["inputs"],
        hooks=_selection(value["hooks"]),
        logits=wanted["logits"],
        top_k=wanted["topK"],
        sampling=Sampling(value["maxNewTokens"], value["temperature"], value["topP"]) if generates else None,
        loss=value.get("loss"),
        train=_train(value) if value["mode"] == "train" else None,
    )


def _train(value: Json) -> Train:
    return Train(value["steps"], value["optimizer"], value.get("checkpointEvery"))


def _selection(value: Json) -> HookSelection:
    names = value.get("names")
    if names is not None:
        return HookSelection(names=tuple(names))
    # An empty selection object leaves everything on.
    return HookSelection(groups=tuple(value.get("groups", (ALL,))), complement=value.get("complement", False))
