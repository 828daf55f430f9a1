"""What is refused before any rank moves, each with its code, its path and words that help; the next job succeeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from patchbay_worker.errors import PatchbayError
from support.checkpoints import make_checkpoint
from support.gang import Gang

RUN: dict[str, Any] = {"name": "r", "inputs": {"tokenIds": [[5, 9, 31]]}}
GATE = "model.layers.1.mlp.gate_proj"
NOTHING = {"kind": "python", "source": "def edit(current_module, inputs, save_ctx, modules):\n    return inputs\n"}


def hook(module: str = GATE, **more: Any) -> dict[str, Any]:
    return {"hooks": [{"name": "h", "moduleName": module, **more}], "runs": [RUN]}


def inputs(**given: Any) -> dict[str, Any]:
    return {"runs": [{**RUN, "inputs": given}]}


CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("module", hook("model.layers.1.mlp.gate_prj"), "PB_HOOK_MODULE_NOT_FOUND", "hooks[0].moduleName", "gate_prj"),
    ("glob", hook("model.layers.*.nothing"), "PB_HOOK_MODULE_NOT_FOUND", "hooks[0].moduleName", "nothing"),
    ("leaf", hook(unpackIdx=1), "PB_UNPACK_INDEX", "hooks[0].unpackIdx", "1 tensors"),
    (
        "width",
        hook(expectedShape=[None, None, 64]),
        "PB_SHAPE_MISMATCH",
        "hooks[0].expectedShape",
        "rank 1: [1, 3, 64]",
    ),
    ("batch", hook(expectedShape=[2, None, 128]), "PB_SHAPE_MISMATCH", "hooks[0].expectedShape", "[1, 3, 128]"),
    ("sequence", hook(expectedShape=[1, 4, 128]), "PB_SHAPE_MISMATCH", "hooks[0].expectedShape", "[1, 4, 128]"),
    ("dims", hook(expectedShape=[None, 128]), "PB_SHAPE_MISMATCH", "hooks[0].expectedShape", "[null, 128]"),
    ("type", hook(hookType="full_backward"), "PB_GRADIENT_NEEDS_BACKWARD", "hooks[0].hookType", "full_backward"),
    ("empty row", inputs(tokenIds=[[5], []]), "PB_PROMPT_EMPTY", "runs[0].inputs.tokenIds[1]", "no tokens"),
    ("empty text", inputs(text=["w3", ""]), "PB_PROMPT_EMPTY", "runs[0].inputs.text[1]", "no tokens"),
    ("token", inputs(tokenIds=[[5, 128]]), "PB_TOKEN_OUT_OF_RANGE", "runs[0].inputs.tokenIds[0][1]", "128"),
    ("negative token", inputs(tokenIds=[[-1]]), "PB_TOKEN_OUT_OF_RANGE", "runs[0].inputs.tokenIds[0][0]", "-1"),
    ("long", inputs(tokenIds=[[5] * 65]), "PB_PROMPT_TOO_LONG", "runs[0].inputs.tokenIds[0]", "65 tokens"),
    ("chat", inputs(chat=[[{"role": "user", "content": "w3"}]]), "PB_TOKENIZER_MISSING", "runs[0].inputs", "chat"),
    (
        "generation",
        {"runs": [{**RUN, "mode": "generate", "maxNewTokens": 62}]},
        "PB_PROMPT_TOO_LONG",
        "runs[0].inputs.tokenIds[0]",
        "65 tokens",
    ),
    (
        "parameter",
        {"runs": [RUN], "return": {"parameters": ["model.norm.wait"]}},
        "PB_PARAMETER_NOT_FOUND",
        "return.parameters[0]",
        "model.norm.wait",
    ),
]


@pytest.mark.parametrize(("document", "code", "path", "says"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_refused_on_every_way_in(pair: Gang, document: dict[str, Any], code: str, path: str, says: str) -> None:
    for way in (pair.prepare, pair.validate):
        with pytest.raises(PatchbayError) as caught:
            way(document)
        assert (caught.value.code, caught.value.path) == (code, path)
        assert says in caught.value.message
    assert pair.run({"runs": [RUN]}).result["runs"]["r"]["tokenIds"] == [[5, 9, 31]]


def test_near_names_are_told(pair: Gang) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.prepare(hook("model.layers.1.mlp.gate_prj"))
    assert GATE in str(caught.value.hint)


def test_a_shape_mismatch_names_every_rank(pair: Gang) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.prepare(hook(expectedShape=[None, None, 127], edit=NOTHING))
    for part in ("[null, null, 127]", "full shape [1, 3, 128]", "rank 0: [1, 3, 64]", "rank 1: [1, 3, 64]"):
        assert part in caught.value.message


def test_a_hint_at_the_sequence_of_a_generation_may_be_the_prompt_or_a_step(pair: Gang) -> None:
    run = {**RUN, "mode": "generate", "maxNewTokens": 2}
    for sequence in (3, 1):
        pair.validate({**hook(expectedShape=[1, sequence, 128]), "runs": [run]})
    with pytest.raises(PatchbayError):
        pair.validate({**hook(expectedShape=[1, 2, 128]), "runs": [run]})


def test_unknown_words_are_warned_about(pair: Gang) -> None:
    warnings = pair.validate(inputs(text=["w3 w4", "w5 Paris w6"]))["warnings"]
    assert len(warnings) == 1
    assert "runs[0].inputs.text[1]" in warnings[0]
    assert "'Paris'" in warnings[0]


def test_a_hook_that_no_run_enables_is_warned_about(pair: Gang) -> None:
    document = hook()
    document["runs"] = [{**RUN, "hooks": {"names": []}}]
    assert any("h is on in no run" in warning for warning in pair.validate(document)["warnings"])


def test_sources_and_inputs_come_as_artifacts(pair: Gang) -> None:
    text, ids = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    source = "def edit(current_module, inputs, save_ctx, modules):\n    save_ctx.seen = 1\n    return inputs\n"
    document = hook(edit={"kind": "python", "source": {"artifact": text}})
    document["runs"] = [{"name": "r", "inputs": {"tensors": {"input_ids": {"artifact": ids}}}}]
    artifacts = {text: source.encode(), ids: save({"input_ids": torch.tensor([[5, 9], [3, 4]])})}
    result = pair.run(document, artifacts).result
    assert result["saveCtx"] == {"seen": 1}
    assert result["runs"]["r"]["tokenIds"] == [[5, 9], [3, 4]]
    with pytest.raises(PatchbayError) as caught:
        pair.prepare(document, {ids: artifacts[ids]})
    assert caught.value.code == "PB_ARTIFACT_NOT_FOUND"


@pytest.mark.parametrize(
    ("family", "changes", "code", "says"),
    [
        ("gpt2", {}, "PB_NOT_SHARDABLE", "no tensor parallel plan"),
        ("llama", {"num_key_value_heads": 1}, "PB_NOT_DIVISIBLE", "num_key_value_heads = 1"),
        ("llama", {"intermediate_size": 127}, "PB_NOT_DIVISIBLE", "intermediate_size = 127"),
        ("llama", {"vocab_size": 129}, "PB_NOT_DIVISIBLE", "vocab_size = 129"),
    ],
)
def test_models_that_cannot_be_sharded(
    bare_pair: Gang, tmp_path: Path, family: str, changes: dict[str, Any], code: str, says: str
) -> None:
    path = make_checkpoint(tmp_path / family, family, **changes)
    with pytest.raises(PatchbayError) as caught:
        bare_pair.load(path)
    assert caught.value.code == code
    assert says in caught.value.message


def test_a_mesh_that_is_not_served(bare_single: Gang, llama: Path) -> None:
    with pytest.raises(PatchbayError) as caught:
        bare_single.load(llama, pp=2, dp=2)
    assert caught.value.code == "PB_MESH_UNSUPPORTED"


def test_stages_need_a_plan_and_a_layer_each(llama: Path, tmp_path: Path) -> None:
    gpt2 = make_checkpoint(tmp_path / "gpt2", "gpt2")
    shallow = make_checkpoint(tmp_path / "shallow", "llama", num_hidden_layers=1)
    with Gang(1, pp=2) as stages:
        for path, says in ((gpt2, "has no pipeline plan"), (shallow, "1 layers cannot be divided into 2 stages")):
            with pytest.raises(PatchbayError, match=says) as caught:
                stages.load(path)
            assert caught.value.code == "PB_NOT_SHARDABLE"
        assert stages.load(llama)["mesh"] == {"pp": 2, "dp": 1, "tp": 1}


def test_a_path_without_a_model(bare_single: Gang, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PatchbayError) as caught:
        bare_single.load(tmp_path / "empty")
    assert caught.value.code == "PB_MODEL_LOAD_FAILED"


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("def edit(a, b, c, d):\n    return b +\n", "PB_EDIT_SYNTAX", 2),
        ("def edot(a, b, c, d):\n    return b\n", "PB_EDIT_ENTRY_MISSING", None),
        ("def edit(inputs):\n    return inputs\n", "PB_EDIT_SIGNATURE", None),
        ("import torch\nimport nowhere_to_be_found\ndef edit(a, b, c, d):\n    return b\n", "PB_EDIT_FAILED", 2),
    ],
)
def test_a_validation_reads_the_sources(pair: Gang, source: str, code: str, line: int | None) -> None:
    with pytest.raises(PatchbayError) as caught:
        pair.validate(hook(edit={"kind": "python", "source": source}))
    assert caught.value.code == code
    if line is not None:
        assert caught.value.to_json()["remote"]["line"] == line
    assert pair.validate(hook(edit=NOTHING))["warnings"] == []
