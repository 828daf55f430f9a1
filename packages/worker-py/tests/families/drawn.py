"""A drawn job on a mesh against plain torch: logits and everything that hooks saw, for the batch as the model is given
it and for each prompt alone without any padding. Not here: drawing (draw.py), plain torch (plain_job.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from torch import Tensor
from transformers import AutoModelForCausalLM

from families.draw import WATCH, Drawn, Json, drawn_jobs
from families.plain_job import Plain, PlainRun
from support.gang import Gang, Outcome

FLOAT32: Final = 2e-5  # of the largest expected value, at least of 1: only the order of sums differs
EFFECT: Final = 1e-3
# bfloat16 has no number that holds for every model: an error of half a unit in a layer grows in those behind it. The
# model itself says how far: by what plain bfloat16 differs from float32 with the same weights. Two roundings of one
# computation are at most twice that apart; partial sums that are rounded before they are added up take as much again.
ROUNDINGS: Final = 4.0
UNIT: Final = 2.0**-8  # of a bfloat16 at 1


@dataclass
class Tally:
    """What has been shown, for the page."""

    jobs: int = 0
    hooks: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0  # largest difference in tolerances


@cache
def whole_model(path: Path, dtype: str, *, exact: bool = False) -> Any:
    """As torch loads it; `exact`: weights rounded to `dtype`, computing in float32."""
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    if exact:
        model.float()  # not done otherwise: `to` would also round the buffers, which torch keeps in float32
    return model.eval().requires_grad_(False)


def examine_drawn(gang: Gang, path: Path, description: Json, dtype: str, *, count: int, number: int) -> Tally:
    """The gang has loaded `path` as `dtype`. Raises AssertionError with the smallest job that differs."""
    tally = Tally()

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn_jobs(description))
    def check(job: Drawn) -> None:
        check_job(gang, path, job, dtype, tally)

    check()
    return tally


def check_job(gang: Gang, path: Path, job: Drawn, dtype: str, tally: Tally) -> None:
    model = whole_model(path, dtype)
    want = PlainRun(model, job).run()
    assume(_effective(job, want, PlainRun(model, job, edited=False).run()))
    outcome = gang.run(job.document)
    exact = PlainRun(whole_model(path, dtype, exact=True), job).run() if dtype != "float32" else None
    for what, got, expected, truth in _pairs(job, outcome, want, exact):
        tally.worst = max(tally.worst, compare(got, expected, truth, what))
    if exact is None and all(hook.get("unpackIdx", 0) == 0 for hook in job.hooks):
        _alone(model, job, outcome)
    tally.jobs += 1
    _count(job, outcome, want, tally)


def _effective(job: Drawn, want: Plain, unedited: Plain) -> bool:
    """Every edited job has to differ from the one without its edits, or it could not fail."""
    if not any("edit" in hook for hook in job.hooks):
        return True
    moved = [(want.logits, unedited.logits)]
    moved += list(zip(want.seen.get(WATCH, []), unedited.seen.get(WATCH, []), strict=True))
    moved += [
        pair
        for hook in job.hooks
        if hook["hookType"] == "tensor" and hook["save"] == "post"
        for pair in zip(want.seen.get(hook["name"], []), unedited.seen.get(hook["name"], []), strict=True)
    ]
    return any(bool((one - other).abs().max() > EFFECT) for one, other in moved)


def compare(got: Tensor, want: Tensor, exact: Tensor | None, what: str) -> float:
    """How many tolerances they are apart; at most 1."""
    assert got.dtype == want.dtype, f"{what}: {got.dtype} for {want.dtype}"
    assert got.shape == want.shape, f"{what}: {list(got.shape)} for {list(want.shape)}"
    if not want.is_floating_point() or want.numel() == 0:
        assert torch.equal(got, want), what
        return 0.0
    scale = max(1.0, float(want.abs().max()))
    tolerance = FLOAT32 * scale
    if exact is not None:
        tolerance = ROUNDINGS * float((want.float() - exact.float()).abs().max()) + UNIT * scale
    difference = float((got.float() - want.float()).abs().max())
    assert difference <= tolerance, f"{what}: differs by {difference}, the tolerance is {tolerance}"
    return difference / tolerance


def _pairs(
    job: Drawn, outcome: Outcome, want: Plain, exact: Plain | None
) -> Iterator[tuple[str, Tensor, Tensor, Tensor | None]]:
    got = outcome.tensor("r/logits")
    for row, prompt in enumerate(job.prompts):
        part = (row, slice(len(prompt)))
        yield f"logits of row {row}", got[part], want.logits[part], exact.logits[part] if exact is not None else None
    for hook in job.hooks:
        calls = captures(outcome, hook)
        expected = want.seen.get(hook["name"], [])
        assert len(calls) == len(expected), f"{hook}: {len(calls)} captures of {len(expected)} calls"
        for call, (value, kept) in enumerate(zip(calls, expected, strict=True)):
            truth = exact.seen[hook["name"]][call] if exact is not None else None
            yield f"call {call} of {hook}", value, kept, truth


def captures(outcome: Outcome, hook: Json) -> list[Tensor]:
    """By call: the whole tensor, or with `where` the tokens it chose, as [n, ..] without padding."""
    found = [each for each in outcome.result["activations"] if each["hook"] == hook["name"] and "missing" not in each]
    of_gradients = hook["hookType"] not in ("forward", "forward_pre")
    file = "gradients.safetensors" if of_gradients else "activations.safetensors"
    tensors = []
    for entry in found:
        value = outcome.tensor(entry["tensor"], file)
        if "where" in hook:
            real = torch.tensor([label is not None for label in entry["rows"]])
            value = value.flatten(0, 1)[real]
        tensors.append(value)
    return tensors


def _alone(model: Any, job: Drawn, outcome: Outcome) -> None:
    """Each prompt by itself, without padding, mask or positions: neither its neighbours nor its padding may show."""
    for row, prompt in enumerate(job.prompts):
        hooks = []
        for hook in job.hooks:
            where = hook.get("where", {})
            if row in where.get("rows", [row]) and hook["hookType"] in ("forward", "forward_pre"):
                own = {**where, "rows": [0]} if where else None
                hooks.append({**hook, "where": own})
        run = {"name": "r", "inputs": {"tokenIds": [prompt]}}
        single = replace(job, document={"hooks": hooks, "runs": [run]})
        want = PlainRun(model, single).run(masked=False)
        compare(outcome.tensor("r/logits")[row, : len(prompt)], want.logits[0], None, f"logits of prompt {row} alone")


def _count(job: Drawn, outcome: Outcome, want: Plain, tally: Tally) -> None:
    for hook in job.hooks:
        report = outcome.report(hook["name"])
        tally.hooks[hook["hookType"]] += 1
        tally.hooks[f"route {report['route']}"] += 1
        tally.hooks["edited"] += "edit" in hook
        tally.hooks["where"] += "where" in hook
        tally.hooks["later leaf"] += hook.get("unpackIdx", 0) > 0
        if "where" in hook and "edit" in hook:
            assert report["rowsTouched"] == want.touched[hook["name"]], hook
    tally.hooks["ragged"] += job.ragged
    tally.hooks["backward"] += job.run.get("mode") == "backward"
