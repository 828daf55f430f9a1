"""Copies and pipeline stages, alone and with tensor parallelism, against plain torch on the unsharded model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from patchbay_worker.errors import PatchbayError
from support import order
from support.gang import Gang
from support.plain_gradients import plain_gradients
from support.plain_hooks import greedy, plain_logits, plain_model

MESHES: list[dict[str, Any]] = [
    {"dp": 2, "tp": 1},
    {"dp": 2, "tp": 2},
    {"dp": 2, "tp": 1, "fsdp": True},
    {"dp": 2, "tp": 2, "fsdp": True},
    {"pp": 2, "tp": 1},
    {"pp": 2, "tp": 2},
]
ROWS = [[5, 9, 31, 4, 17], [7, 3, 100, 8, 50], [60, 61, 62, 63, 64]]  # two copies do not share three rows equally
EARLY, LATE = "model.layers.0", "model.layers.3"  # of four layers
LOGITS = {"return": {"logits": "all", "topK": 1}}


@pytest.fixture(scope="module", params=MESHES, ids=lambda mesh: "".join(f"{k}{v}" for k, v in mesh.items()))
def gang(request: pytest.FixtureRequest, llama: Path) -> Iterator[Gang]:
    with Gang(**request.param) as started:
        started.load(llama)
        yield started


def python(body: str) -> dict[str, str]:
    return {"kind": "python", "source": f"def edit(current_module, inputs, save_ctx, modules):\n{body}"}


def run(**more: Any) -> dict[str, Any]:
    return {"name": "r", "inputs": {"tokenIds": ROWS}, **LOGITS, **more}


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def mix(x: Tensor) -> Tensor:
    return x.flip(-1).tanh() * 0.7 + x.cumsum(-1) * 0.05


MIX = python("    return inputs.flip(-1).tanh() * 0.7 + inputs.cumsum(-1) * 0.05")


def test_plain_forward_and_description(gang: Gang, llama: Path) -> None:
    description = gang.load(llama)
    assert {axis: description["mesh"][axis] for axis in gang.mesh} == gang.mesh
    assert [each["name"] for each in description["modules"]] == [n for n, _ in plain_model(llama).named_modules() if n]
    shapes = {each["name"]: each["shape"] for each in description["parameters"]}
    assert shapes == {name: list(value.shape) for name, value in plain_model(llama).named_parameters()}
    sites = {(each["module"], each["hookType"]): each for each in description["sites"]}
    assert sites[f"{LATE}.mlp.gate_proj", "forward"]["shape"] == ["B", "S", 128]
    outcome = gang.run({"runs": [run()]})
    want = plain_logits(llama, ROWS)
    close(outcome.tensor("r/logits"), want)
    top = [row[0]["tokenId"] for row in outcome.result["runs"]["r"]["topK"]]
    assert top == want[:, -1].argmax(-1).tolist()


@pytest.mark.parametrize("module", [EARLY, LATE, f"{EARLY}.mlp.gate_proj", f"{LATE}.mlp.gate_proj", "lm_head"])
def test_reads_and_edits_of_the_whole_batch(gang: Gang, llama: Path, module: str) -> None:
    hooks = [
        {"name": "pre", "moduleName": module},
        {"name": "edit", "moduleName": module, "edit": MIX, "save": "post"},
    ]
    outcome = gang.run({"hooks": hooks, "runs": [run()]})
    seen: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x)
        return mix(x)

    want = plain_logits(llama, ROWS, (module, "forward", keep))
    assert (want - plain_logits(llama, ROWS)).abs().max() > 1e-3
    close(outcome.tensor("r/logits"), want)
    close(outcome.captured(f"r/pre/{module}/0"), seen[0])
    close(outcome.captured(f"r/edit/{module}/0"), mix(seen[0]))
    entry = next(each for each in outcome.result["activations"] if each["hook"] == "pre")
    assert [label["row"] for label in entry["rows"]] == [row for row in range(3) for _ in range(5)]
    report = outcome.report("edit")
    assert (report["calls"], report["rowsTouched"]) == (1, 15)
    if gang.mesh["dp"] > 1 or (gang.tp > 1 and "gate" in module):
        assert report["gatheredBytes"] > 0


def test_where_counts_rows_of_all_copies(gang: Gang, llama: Path) -> None:
    module = f"{LATE}.mlp.up_proj"
    where = {"rows": [0, 2], "positions": [1, -1]}
    hook = {"name": "h", "moduleName": module, "edit": python("    return inputs * 3"), "where": where}
    outcome = gang.run({"hooks": [hook], "runs": [run()]})
    rows, columns = torch.tensor([[0], [2]]), torch.tensor([[1, 4]])

    def edit(x: Tensor) -> Tensor:
        x[rows, columns] *= 3
        return x

    want = plain_logits(llama, ROWS, (module, "forward", edit))
    assert (want - plain_logits(llama, ROWS)).abs().max() > 1e-3
    close(outcome.tensor("r/logits"), want)
    labels = outcome.result["activations"][0]["rows"]
    assert [(each["row"], each["position"]) for each in labels] == [(0, 1), (0, 4), (2, 1), (2, 4)]
    assert outcome.report("h")["rowsTouched"] == 4


def test_ragged_rows_equal_each_prompt_alone(gang: Gang, llama: Path) -> None:
    ragged = [[5, 9, 31, 4, 17], [7, 3], [60, 61, 62]]
    hook = {"name": "h", "moduleName": f"{LATE}.mlp.gate_proj", "edit": MIX}
    outcome = gang.run({"hooks": [hook], "runs": [run(inputs={"tokenIds": ragged})]})
    for index, row in enumerate(ragged):
        want = plain_logits(llama, [row], (f"{LATE}.mlp.gate_proj", "forward", mix))
        close(outcome.tensor("r/logits")[index, : len(row)], want[0])


def test_each_of_ragged_prompts_is_continued_as_it_is_alone(gang: Gang, llama: Path) -> None:
    """Steps after the prompt attend to no padding, on every stage."""
    ragged = [[5, 9, 31, 4, 17], [7, 3], [60, 61, 62]]
    hook = {"name": "h", "moduleName": f"{LATE}.mlp", "edit": MIX, "save": "none"}
    outcome = gang.run({"hooks": [hook], "runs": [run(mode="generate", inputs={"tokenIds": ragged}, maxNewTokens=5)]})
    steered = [greedy(llama, row, 5, (f"{LATE}.mlp", "forward", mix)) for row in ragged]
    assert outcome.result["runs"]["r"]["generatedTokenIds"] == steered
    assert steered != [greedy(llama, row, 5) for row in ragged]


def test_save_ctx_and_modules_are_one_for_all(gang: Gang, llama: Path) -> None:
    """A value of the first layer is used in the last one, in the same run and in the next."""
    hooks = [
        {"name": "a", "moduleName": EARLY, "edit": python("    save_ctx.x = inputs.clone()\n    return inputs")},
        {"name": "b", "moduleName": LATE, "edit": python("    return inputs + modules['m'](save_ctx.x)")},
    ]
    document = {
        "seed": 4,
        "modules": {"m": {"kind": "linear", "inFeatures": 64, "outFeatures": 64}},
        "hooks": hooks,
        "runs": [run()],
    }
    outcome = gang.run(document)
    torch.manual_seed(4)
    module = torch.nn.Linear(64, 64)
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    want = plain_logits(llama, ROWS, (EARLY, "forward", keep), (LATE, "forward", lambda x: x + module(kept[0])))
    assert (want - plain_logits(llama, ROWS)).abs().max() > 1e-3
    close(outcome.tensor("r/logits"), want)
    close(outcome.tensor("x", "save_ctx.safetensors"), kept[0])


def test_steered_generation(gang: Gang, llama: Path) -> None:
    hook = {"name": "h", "moduleName": LATE, "edit": python("    return inputs * 1.5 + 0.3")}
    story = run(mode="generate", maxNewTokens=5)
    del story["return"]
    outcome = gang.run({"hooks": [hook], "runs": [story]})
    edit = (LATE, "forward", lambda x: x * 1.5 + 0.3)
    want = [greedy(llama, row, 5, edit) for row in ROWS]
    assert want != [greedy(llama, row, 5) for row in ROWS]
    got = outcome.result["runs"]["r"]["generatedTokenIds"]
    assert got == [row[: len(mine)] for row, mine in zip(want, got, strict=True)]
    assert outcome.report("h")["calls"] == max(len(row) for row in got)


def logit_diff(logits: Tensor) -> Tensor:
    return (logits[:, -1, 11] - logits[:, -1, 90]).sum()


def next_token(logits: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(ROWS)[:, 1:].flatten())


LOSSES: list[tuple[dict[str, Any], Any]] = [
    ({"kind": "logitDiff", "target": 11, "foil": 90}, logit_diff),
    ({"kind": "nextToken"}, next_token),
    (
        {"kind": "python", "source": "def loss(logits, save_ctx, modules):\n    return (logits[:, -1] ** 2).mean()"},
        lambda x: (x[:, -1] ** 2).mean(),
    ),
]


@pytest.mark.parametrize(("loss", "plain"), LOSSES, ids=["logitDiff", "nextToken", "python"])
@pytest.mark.parametrize("edited", [f"{EARLY}.mlp.gate_proj", f"{LATE}.mlp.gate_proj"])
def test_gradients(gang: Gang, llama: Path, loss: dict[str, Any], plain: Any, edited: str) -> None:
    watched = [EARLY, f"{EARLY}.mlp.up_proj", LATE, f"{LATE}.mlp.up_proj"]
    parameters = ["model.embed_tokens.weight", f"{EARLY}.mlp.down_proj.weight", f"{LATE}.mlp.gate_proj.weight"]
    hooks = [{"name": f"g{i}", "moduleName": m, "hookType": "full_backward_pre"} for i, m in enumerate(watched)]
    hooks += [{"name": f"p{i}", "moduleName": m, "hookType": "tensor"} for i, m in enumerate(parameters)]
    edit = {"name": "e", "moduleName": edited, "edit": MIX, "save": "none"}
    outcome = gang.run({"hooks": [edit, *hooks], "runs": [run(mode="backward", loss=loss)]})
    want = plain_gradients(llama, ROWS, plain, watched=watched, parameters=parameters, edits=[(edited, "forward", mix)])
    assert outcome.result["runs"]["r"]["loss"] == pytest.approx(want.loss, rel=1e-4, abs=2e-5)
    close(outcome.tensor("r/logits"), want.logits)
    for index, name in enumerate(watched):
        got = outcome.tensor(f"r/g{index}/{name}/0", "gradients.safetensors")
        close(got, want.of_output[name])
        assert got.abs().max() > 1e-5
    for index, name in enumerate(parameters):
        close(outcome.tensor(f"r/p{index}/{name}/0", "gradients.safetensors"), want.of_parameter[name])


def test_training(gang: Gang) -> None:
    """The loss curve is the one of a single rank, whose training is held against plain torch elsewhere."""
    source = "    return inputs + modules['m'](inputs)"
    document = {
        "seed": 3,
        "modules": {"m": {"kind": "lowRank", "inFeatures": 64, "outFeatures": 64, "rank": 4}},
        "hooks": [{"name": "h", "moduleName": "model.layers.[03]", "edit": python(source), "save": "none"}],
        "runs": [
            {
                "name": "fit",
                "mode": "train",
                "inputs": {"tokenIds": ROWS},
                "loss": {"kind": "nextToken"},
                "steps": 5,
                "optimizer": {"kind": "sgd", "lr": 0.2},
            }
        ],
    }
    outcome = gang.run(document)
    losses = outcome.result["runs"]["fit"]["losses"]
    assert losses == pytest.approx(SINGLE.setdefault("losses", losses), abs=1e-4), "equal on every mesh"
    assert losses[-1] < losses[0] - 1e-2
    weights = outcome.tensor("m.0.weight", "modules.safetensors")
    close(weights, SINGLE.setdefault("weights", weights))


SINGLE: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def single(llama: Path) -> None:
    """Fills in what one rank gives, before any mesh is compared with it."""
    if not SINGLE:
        with Gang(1) as alone:
            alone.load(llama)
            test_training(alone)


def test_parameters_by_name(gang: Gang, llama: Path) -> None:
    names = [
        "model.embed_tokens.weight",
        f"{EARLY}.mlp.gate_proj.weight",
        f"{LATE}.mlp.down_proj.weight",
        "lm_head.weight",
    ]
    outcome = gang.run({"runs": [run()], "return": {"parameters": names}})
    for name in names:
        assert torch.equal(outcome.tensor(name, "parameters.safetensors"), plain_model(llama).get_parameter(name))


@pytest.mark.parametrize("module", [EARLY, LATE])
@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_a_failing_edit_costs_its_job_only(gang: Gang, module: str, mode: str) -> None:
    before = gang.state()
    hooks = [
        {"name": "bad", "moduleName": module, "edit": python("    raise ValueError('no')")},
        {"name": "good", "moduleName": LATE, "edit": python("    return inputs * 2")},
    ]
    more = {"mode": mode, "loss": {"kind": "sumLogits"}} if mode == "backward" else {}
    with pytest.raises(PatchbayError) as caught:
        gang.run({"hooks": hooks, "runs": [run(**more), run(name="second")]})
    assert (caught.value.code, caught.value.remote and caught.value.remote["line"]) == ("PB_EDIT_FAILED", 2)
    assert gang.state() == before
    assert gang.run({"runs": [run()]}).result["runs"]["r"]["topK"]


def test_what_runs_on_every_stage_is_refused(gang: Gang) -> None:
    hook = {"name": "h", "moduleName": "model.rotary_emb", "edit": python("    return inputs * 2")}
    document = {"hooks": [hook], "runs": [run()]}
    if gang.mesh["pp"] == 1:
        assert gang.run(document).result["runs"]["r"]["topK"]
        return
    with pytest.raises(PatchbayError, match="more than one pipeline stage") as caught:
        gang.run(document)
    assert caught.value.code == "PB_NOT_SHARDABLE"


def test_a_dp_dim_that_is_not_the_batch_is_refused(gang: Gang) -> None:
    hook = {"name": "h", "moduleName": EARLY, "dpDim": 1}
    document = {"hooks": [hook], "runs": [run()]}
    if gang.mesh["dp"] == 1:
        assert gang.run(document).result["activations"]
        return
    with pytest.raises(PatchbayError, match="the batch lies along dim 0") as caught:
        gang.run(document)
    assert (caught.value.code, caught.value.path) == ("PB_NOT_SHARDABLE", "hooks[0].dpDim")


def test_leaves_are_counted_as_in_a_pass_over_all_rows(gang: Gang, llama: Path) -> None:
    """Of two copies one has rows without padding, so no attention mask, and its cos stands one leaf earlier."""
    ragged = [[5, 9, 31, 4, 17], [60, 61, 62, 63, 64], [7, 3, 100]]
    hook = {"name": "h", "moduleName": EARLY, "hookType": "forward_pre", "unpackIdx": 2, "edit": MIX}
    outcome = gang.run({"hooks": [hook], "runs": [run(inputs={"tokenIds": ragged})]})
    for index, row in enumerate(ragged):
        want = plain_logits(llama, [row], (EARLY, "forward_pre", mix, 1))  # a row by itself has no mask
        close(outcome.tensor("r/logits")[index, : len(row)], want[0])
        assert (want - plain_logits(llama, [row])).abs().max() > 1e-3


def test_a_mask_that_only_some_copies_have_is_refused_by_all(gang: Gang) -> None:
    """Row by row it stays with its copy, but a hook would see it whole."""
    ragged = [[5, 9, 31, 4, 17], [60, 61, 62, 63, 64], [7, 3, 100]]
    hook = {"name": "h", "moduleName": EARLY, "hookType": "forward_pre", "unpackIdx": 1}
    document = {"hooks": [hook], "runs": [run(inputs={"tokenIds": ragged})]}
    if gang.mesh["dp"] == 1:
        assert gang.run(document).captured(f"r/h/{EARLY}/0").shape == (3, 1, 5, 5)
        return
    with pytest.raises(PatchbayError) as caught:
        gang.run(document)
    assert (caught.value.code, caught.value.path) == ("PB_NOT_SHARDABLE", "hooks[0]")
    assert gang.run({"runs": [run()]}).result["runs"]["r"]["topK"]


@pytest.mark.parametrize(
    ("loss", "plain"),
    [
        ({"kind": "logitDiff", "position": -1, "target": 11, "foil": 90}, lambda x: x[0, -1, 11] - x[0, -1, 90]),
        ({"kind": "nextToken"}, lambda x: functional.cross_entropy(x[0, :-1], torch.tensor(ROWS[0][1:]))),
    ],
)
def test_a_single_row_has_its_gradients_on_copies_without_any(
    gang: Gang, llama: Path, loss: dict[str, Any], plain: Any
) -> None:
    hook = {"name": "g", "moduleName": EARLY, "hookType": "full_backward_pre"}
    edit = {"name": "e", "moduleName": f"{LATE}.mlp", "edit": MIX, "save": "none"}
    outcome = gang.run(
        {"hooks": [hook, edit], "runs": [run(mode="backward", inputs={"tokenIds": ROWS[:1]}, loss=loss)]}
    )
    want = plain_gradients(llama, ROWS[:1], plain, watched=[EARLY], edits=[(f"{LATE}.mlp", "forward", mix)])
    gradient = outcome.tensor(f"r/g/{EARLY}/0", "gradients.safetensors")
    close(gradient, want.of_output[EARLY])
    assert gradient.abs().max() > 1e-3
    assert outcome.result["runs"]["r"]["loss"] == pytest.approx(want.loss, abs=1e-3)


def test_ids_that_one_copy_alone_makes_wrong_end_the_job(gang: Gang) -> None:
    body = "    inputs[-1] = 500\n    return inputs"
    hook = {"name": "h", "moduleName": "model.embed_tokens", "hookType": "forward_pre", "edit": python(body)}
    with pytest.raises(PatchbayError) as caught:
        gang.run({"hooks": [hook], "runs": [run()]})
    assert caught.value.code == "PB_TOKEN_OUT_OF_RANGE"
    assert gang.run({"runs": [run()]}).result["runs"]["r"]["topK"]


def test_one_order_on_all_ranks(gang: Gang) -> None:
    gang.record()
    gang.run(order.document(python("    return inputs.flip(-1)")))
    records = gang.recorded()
    order.check(records, 20)
    did = {name for record in records for name, *_ in record}
    assert "message" in did, "between stages, and to the root of an edit and back"
    if gang.mesh["pp"] == 1:
        assert "gather" in did, "of reads"
        assert ({"all_gather_single", "reduce_scatter_single"} <= did) is gang.fsdp
