"""Graph edits in jobs: on every layout what plain hooks give on the unsharded model, with all that is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from patchbay_worker.errors import PatchbayError
from support.gang import Gang
from support.plain_gradients import plain_gradients
from support.plain_hooks import greedy, plain_logits

from .test_read import step

TOKENS = [[5, 9, 31, 4, 17], [7, 3, 100, 64, 8]]
RAGGED = [[5, 9, 31, 4, 17], [7, 3]]
ATOL = 2e-5  # fp32: only the order of the sums of an all-reduce differs
EFFECT = 1e-3
GATE, RESIDUAL = "model.layers.1.mlp.gate_proj", "model.layers.2"
RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}

torch.manual_seed(3)
WIDE, NARROW, SQUARE = torch.randn(128), torch.randn(64), torch.randn(64, 64) * 0.1


def artifact(**tensors: Tensor) -> tuple[str, bytes]:
    data = save(tensors)
    return f"sha256:{hashlib.sha256(data).hexdigest()}", data


def hook(module: str, *steps: dict[str, Any], **more: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A hook, and the artifacts that it needs; tensors are among the options."""
    tensors = {name: more.pop(name) for name in list(more) if isinstance(more[name], Tensor)}
    stored = {name: artifact(**{name: value}) for name, value in tensors.items()}
    edit = {
        "kind": "graph",
        "steps": list(steps),
        "tensors": {name: {"artifact": digest} for name, (digest, _) in stored.items()},
    }
    return {"name": "h", "moduleName": module, "edit": edit, **more}, dict(stored.values())


def run(gang: Gang, made: tuple[dict[str, Any], dict[str, bytes]], *runs: dict[str, Any], **more: Any) -> Any:
    return gang.run({"hooks": [made[0]], "runs": list(runs) or [RUN], **more}, made[1])


# (name, module, kind, steps and tensors, the same in torch, the route at tp > 1)
Case = tuple[str, str, str, list[dict[str, Any]], dict[str, Tensor], Callable[[Tensor], Tensor], str]
HEADS: list[dict[str, Any]] = [
    step("unflatten", "x", dim=-1, sizes=[4, 16], **{"as": "heads"}),
    step("fill", "heads", dim=-2, indices=[1, 3], value=0, **{"as": "ablated"}),
    step("flatten", "ablated", dim=-2),
]


def without_heads(x: Tensor) -> Tensor:
    return x.index_fill(-1, torch.cat([torch.arange(16, 32), torch.arange(48, 64)]), 0)


PROJECT_OUT: list[dict[str, Any]] = [
    step("norm", "v", dim=-1, **{"as": "length"}),
    step("div", "v", "length", **{"as": "unit"}),
    step("mul", "x", "unit", **{"as": "product"}),
    step("sum", "product", dim=-1, **{"as": "along"}),
    step("mul", "along", "unit", **{"as": "component"}),
    step("sub", "x", "component"),
]


def project_out(v: Tensor) -> Callable[[Tensor], Tensor]:
    unit = v / v.norm()
    return lambda x: x - (x * unit).sum(-1, keepdim=True) * unit


CASES: list[Case] = [
    ("scaled", GATE, "forward", [step("mul", "x", 1.5)], {}, lambda x: x * 1.5, "local"),
    ("steered", RESIDUAL, "forward", [step("add", "x", "v")], {"v": NARROW}, lambda x: x + NARROW, "local"),
    ("steered, cut", GATE, "forward", [step("add", "x", "v")], {"v": WIDE}, lambda x: x + WIDE, "local"),
    ("projected", RESIDUAL, "forward", PROJECT_OUT, {"v": NARROW}, project_out(NARROW), "local"),
    ("projected, cut", GATE, "forward", PROJECT_OUT, {"v": WIDE}, project_out(WIDE), "root"),
    (
        "rotated",
        "model.layers.1.self_attn",
        "forward_pre",
        [step("matmul", "x", "w")],
        {"w": SQUARE},
        lambda x: x @ SQUARE,
        "local",
    ),
    ("heads", "model.layers.3.self_attn.o_proj", "forward_pre", HEADS, {}, without_heads, "root"),
    (
        "thresholded",
        "model.layers.2.mlp.down_proj",
        "forward_pre",
        [step("gt", "x", 0.02, **{"as": "on"}), step("where", "on", "x", 0)],
        {},
        lambda x: torch.where(x > 0.02, x, 0),
        "local",
    ),
    (
        "positions mixed",
        GATE,
        "forward",
        [step("softmax", "x", dim=-2, **{"as": "weights"}), step("mul", "weights", "x")],
        {},
        lambda x: x.softmax(-2) * x,
        "local",
    ),
]


@pytest.mark.parametrize(
    ("module", "kind", "steps", "tensors", "plain", "route"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("save", ["pre", "post"])
def test_a_graph_equals_plain_hooks(
    gang: Gang,
    llama: Path,
    module: str,
    kind: str,
    steps: list[dict[str, Any]],
    tensors: dict[str, Tensor],
    plain: Callable[[Tensor], Tensor],
    route: str,
    save: str,
) -> None:
    seen: list[Tensor] = []

    def edit(x: Tensor) -> Tensor:
        y = plain(x)
        seen.append((x if save == "pre" else y).clone())
        change.append((x, y))
        return y

    change: list[tuple[Tensor, Tensor]] = []
    outcome = run(gang, hook(module, *steps, hookType=kind, save=save, **tensors))
    want = plain_logits(llama, TOKENS, (module, kind, edit))
    assert (want - plain_logits(llama, TOKENS)).abs().max() > EFFECT
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL, rtol=0)
    torch.testing.assert_close(outcome.captured(f"r/h/{module}/0"), seen[0], atol=ATOL, rtol=0)

    report = outcome.report("h")
    ((x, y),) = change
    assert (report["calls"], report["rowsTouched"], report["notFinite"]) == (1, 10, 0)
    assert report["relativeChange"] == pytest.approx(float((y - x).norm() / x.norm()), rel=1e-4)
    assert report["route"] == (route if gang.tp > 1 else "local")
    is_cut = gang.tp > 1 and "proj" in module
    assert (report["gatheredBytes"] > 0) == is_cut, "what is saved has to be gathered"


def test_rows_are_counted_once_however_many_shards_they_have(gang: Gang) -> None:
    """Column 0 is on the first rank, column 127 on the last; only rows with a large value there change."""
    read = gang.run({"hooks": [{"name": "h", "moduleName": GATE}], "runs": [RUN]}).captured(f"r/h/{GATE}/0")
    ends = read[..., [0, 127]]
    limit = float(ends.amax(-1).median())
    steps = [
        step("gt", "x", limit, **{"as": "on"}),
        step("logical_and", "on", "mask", **{"as": "chosen"}),
        step("where", "chosen", 99.0, "x"),
    ]
    mask = torch.zeros(128, dtype=torch.bool)
    mask[[0, 127]] = True
    outcome = run(gang, hook(GATE, *steps, mask=mask))
    touched = (ends > limit).any(-1)
    assert 0 < int(touched.sum()) < touched.numel()
    report = outcome.report("h")
    assert report["rowsTouched"] == int(touched.sum())
    after = torch.where((read > limit) & mask, 99.0, read)
    assert report["relativeChange"] == pytest.approx(float((after - read).norm() / read.norm()), rel=1e-4)


def test_values_that_become_nan_are_counted_over_all_shards(gang: Gang) -> None:
    outcome = run(gang, hook(GATE, step("log", "x")))
    before = outcome.captured(f"r/h/{GATE}/0")
    assert outcome.report("h")["notFinite"] == int((before <= 0).sum()) > 0
    assert any("NaN or infinite" in warning for warning in outcome.result["warnings"])


def test_chosen_tokens_alone_are_edited(gang: Gang, llama: Path) -> None:
    made = hook(GATE, step("add", "x", "v"), where={"positions": [-1]}, v=WIDE)
    outcome = run(gang, made, {**RUN, "inputs": {"tokenIds": RAGGED}})
    for row, tokens in enumerate(RAGGED):

        def last(x: Tensor) -> Tensor:
            x[:, -1] += WIDE
            return x

        want = plain_logits(llama, [tokens], (GATE, "forward", last))[0]
        torch.testing.assert_close(outcome.tensor("r/logits")[row, : len(tokens)], want, atol=ATOL, rtol=0)
    assert outcome.report("h")["rowsTouched"] == 2
    positions = [each["position"] for each in outcome.result["activations"][0]["rows"]]
    assert positions == [4, 1]


def test_padding_is_refused_where_it_would_count_and_not_elsewhere(pair: Gang) -> None:
    ragged = {**RUN, "inputs": {"tokenIds": RAGGED}}
    for module in (GATE, RESIDUAL):
        with pytest.raises(PatchbayError, match="padding of shorter rows") as refused:
            run(pair, hook(module, step("cumsum", "x", dim=-2)), ragged)
        assert (refused.value.code, refused.value.path) == ("PB_EDIT_GRAPH", "hooks[0].edit.steps[0]")
        run(pair, hook(module, step("cumsum", "x", dim=-2)))
    run(pair, hook(RESIDUAL, step("cumsum", "x", dim=-1)), ragged)


def test_generation_is_steered_with_the_cache(gang: Gang, llama: Path) -> None:
    generate = {"name": "r", "mode": "generate", "inputs": {"tokenIds": [TOKENS[0]]}, "maxNewTokens": 6}
    steered = run(gang, hook(RESIDUAL, step("add", "x", "v"), v=NARROW), generate)
    (tokens,) = steered.result["runs"]["r"]["generatedTokenIds"]
    assert tokens == greedy(llama, TOKENS[0], 6, (RESIDUAL, "forward", lambda x: x + NARROW))
    assert tokens != greedy(llama, TOKENS[0], 6)
    assert steered.report("h")["calls"] == 6


LOSS: dict[str, Any] = {"mode": "backward", "loss": {"kind": "nextToken"}, "return": {}}


def next_token(logits: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(TOKENS)[:, 1:].flatten())


@pytest.mark.parametrize(
    ("module", "steps", "tensors", "plain"), [(c[1], c[3], c[4], c[5]) for c in CASES if c[2] == "forward"]
)
def test_gradients_go_through_a_graph(
    gang: Gang,
    llama: Path,
    module: str,
    steps: list[dict[str, Any]],
    tensors: dict[str, Tensor],
    plain: Callable[[Tensor], Tensor],
) -> None:
    early = "model.layers.0"
    edit, stored = hook(module, *steps, save="none", **tensors)
    seen = {"name": "g", "moduleName": early, "hookType": "full_backward_pre"}
    outcome = gang.run({"hooks": [edit, seen], "runs": [{**RUN, **LOSS}]}, stored)
    want = plain_gradients(llama, TOKENS, next_token, watched=[early], edits=[(module, "forward", plain)])
    got = outcome.tensor(f"r/g/{early}/0", "gradients.safetensors")
    torch.testing.assert_close(got, want.of_output[early], atol=ATOL * max(1, float(got.abs().max())), rtol=0)
    without = plain_gradients(llama, TOKENS, next_token, watched=[early]).of_output[early]
    assert (without - got).abs().max() > EFFECT * float(without.abs().max())


@pytest.mark.parametrize("module", [GATE, RESIDUAL])
def test_a_gradient_is_edited(gang: Gang, llama: Path, module: str) -> None:
    early = "model.layers.0"
    edit, _ = hook(module, step("mul", "x", -2), hookType="full_backward_pre", save="post")
    seen = {"name": "g", "moduleName": early, "hookType": "full_backward_pre"}
    outcome = gang.run({"hooks": [edit, seen], "runs": [{**RUN, **LOSS}]})
    kind = "full_backward_pre"
    want = plain_gradients(llama, TOKENS, next_token, watched=[early], edits=[(module, kind, lambda g: g * -2)])
    got = outcome.tensor(f"r/g/{early}/0", "gradients.safetensors")
    torch.testing.assert_close(got, want.of_output[early], atol=ATOL * max(1, float(got.abs().max())), rtol=0)
    assert outcome.report("h")["relativeChange"] == pytest.approx(3.0)


def test_the_gradient_of_a_parameter_is_edited(gang: Gang, llama: Path) -> None:
    name = f"{GATE}.weight"
    outcomes = []
    for steps in ([step("mul", "x", 1)], [step("mul", "x", 3)]):
        edit, _ = hook(name, *steps, hookType="tensor", save="post")
        outcomes.append(gang.run({"hooks": [edit], "runs": [{**RUN, **LOSS}]}))
    kept, tripled = (each.tensor(f"r/h/{name}/0", "gradients.safetensors") for each in outcomes)
    want = plain_gradients(llama, TOKENS, next_token, parameters=[name]).of_parameter[name]
    torch.testing.assert_close(kept, want, atol=ATOL, rtol=0)
    assert torch.equal(tripled, kept * 3)
    assert want.abs().max() > EFFECT
    assert outcomes[1].report("h")["route"] == "local"


def test_graphs_chain_with_each_other_and_with_python(gang: Gang, llama: Path) -> None:
    python = {"kind": "python", "source": "def edit(m, inputs, c, d):\n    return inputs.flip(-1)\n"}
    first, stored = hook(GATE, step("add", "x", "v"), v=WIDE)
    last, _ = hook(GATE, step("square", "x"))
    hooks = [{**first, "name": "a"}, {"name": "b", "moduleName": GATE, "edit": python}, {**last, "name": "c"}]
    outcome = gang.run({"hooks": hooks, "runs": [RUN]}, stored)
    want = plain_logits(llama, TOKENS, (GATE, "forward", lambda x: (x + WIDE).flip(-1).square()))
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=ATOL * 10, rtol=0)
    assert [outcome.report(name)["rowsTouched"] for name in "abc"] == [10, 10, 10]


def test_a_job_of_graphs_alone_needs_no_sandbox(pair: Gang) -> None:
    made, stored = hook(GATE, step("mul", "x", 2))
    pair.prepare({"hooks": [made], "runs": [RUN]}, stored)
    outcome = pair.go()
    assert outcome.result["saveCtx"] == {}
    assert outcome.report("h")["rowsTouched"] == 10


REFUSED = [
    (hook(GATE, step("add", "x", "v"), v=NARROW), "PB_EDIT_GRAPH", "hooks[0].edit.steps[0]"),
    (hook(GATE, step("sum", "x", dim=-1)), "PB_EDIT_SHAPE", "hooks[0].edit.steps[0]"),
    (hook(GATE, step("gt", "x", 0)), "PB_EDIT_DTYPE", "hooks[0].edit.steps[0]"),
    (hook(GATE, step("add", "x", "y")), "PB_EDIT_GRAPH", "hooks[0].edit.steps[0].args[1]"),
    ((hook(GATE, step("add", "x", "v"), v=WIDE)[0], {}), "PB_ARTIFACT_NOT_FOUND", None),
]


@pytest.mark.parametrize(("made", "code", "path"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_the_model_is_refused_and_the_next_job_runs(
    pair: Gang, made: tuple[dict[str, Any], dict[str, bytes]], code: str, path: str | None
) -> None:
    with pytest.raises(PatchbayError) as refused:
        pair.prepare({"hooks": [made[0]], "runs": [RUN]}, made[1])
    assert (refused.value.code, refused.value.path) == (code, path)
    run(pair, hook(GATE, step("mul", "x", 2)))


def test_files_that_are_no_constant(pair: Gang) -> None:
    for data, reason in ((b"no tensors", "header"), (save({"a": WIDE, "b": NARROW}), 'none is named "v"')):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        edit = {"kind": "graph", "steps": [step("add", "x", "v")], "tensors": {"v": {"artifact": digest}}}
        document = {"hooks": [{"name": "h", "moduleName": GATE, "edit": edit}], "runs": [RUN]}
        with pytest.raises(PatchbayError) as refused:
            pair.prepare(document, {digest: data})
        assert (refused.value.code, refused.value.path) == ("PB_ARTIFACT_CORRUPT", "hooks[0].edit.tensors.v")
        assert reason.lower() in refused.value.message.lower()


def test_validate_finds_what_needs_no_artifact(pair: Gang) -> None:
    good, _ = hook(GATE, step("add", "x", "v"), v=WIDE)
    assert pair.validate({"hooks": [good], "runs": [RUN]})["warnings"] == []
    for steps, code in (([step("gt", "x", 0)], "PB_EDIT_DTYPE"), ([step("add", "x", "y")], "PB_EDIT_GRAPH")):
        with pytest.raises(PatchbayError) as refused:
            pair.validate({"hooks": [hook(GATE, *steps)[0]], "runs": [RUN]})
        assert refused.value.code == code


def test_more_memory_than_the_job_may_use_is_refused(pair: Gang) -> None:
    steps = [
        step("unflatten", "x", dim=-1, sizes=[128, 1], **{"as": "a"}),
        step("mul", "a", "v", **{"as": "outer"}),
        step("sum", "outer", dim=-1, **{"as": "s"}),
        step("flatten", "s", dim=-2),
    ]
    made, stored = hook(GATE, *steps, v=torch.ones(4096))
    with pytest.raises(PatchbayError) as refused:
        pair.prepare({"hooks": [made], "runs": [RUN], "limits": {"editMemoryBytes": 1 << 20}}, stored)
    assert (refused.value.code, refused.value.path) == ("PB_LIMIT_EXCEEDED", "hooks[0].edit")
    assert pair.run({"hooks": [made], "runs": [RUN]}, stored).report("h")["rowsTouched"] == 10
