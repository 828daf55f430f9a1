"""Models that are no plain decoders: an encoder, and one that reads images beside text, here without an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoModelForMaskedLM
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llava.configuration_llava import LlavaConfig
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from patchbay_worker.errors import PatchbayError
from support.checkpoints import COMMON, LLAMA_LIKE
from support.gang import Gang, Outcome

ROWS = [[5, 9, 31, 4, 17], [7, 3, 100]]
EDIT = "def edit(current_module, inputs, save_ctx, modules):\n    return inputs.flip(-1) * 0.5 + 0.3\n"
BERT = {**COMMON, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    AutoModelForMaskedLM.from_config(BertConfig(**BERT, max_position_embeddings=64)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llava")
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=8, patch_size=4
    )
    text = LlamaConfig(**LLAMA_LIKE)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=127, tie_word_embeddings=False)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    return folder


def plain(model: Any, module: str) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Each row alone: logits, logits under the edit, what the module gives."""
    logits, edited, seen = [], [], []

    def edit(_module: Any, _args: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        seen.append(value[0])
        changed = value.flip(-1) * 0.5 + 0.3
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with torch.no_grad():
        for row in ROWS:
            logits.append(model.eval()(torch.tensor([row])).logits[0])
            handle = model.get_submodule(module).register_forward_hook(edit)
            edited.append(model(torch.tensor([row])).logits[0])
            handle.remove()
    return logits, edited, seen


def check(gang: Gang, model: Any, module: str) -> Outcome:
    hook = {"name": "h", "moduleName": module, "edit": {"kind": "python", "source": EDIT}}
    runs = [
        {"name": name, "inputs": {"tokenIds": ROWS}, "hooks": {"names": names}, "return": {"logits": "all"}}
        for name, names in (("plain", []), ("edited", ["h"]))
    ]
    outcome = gang.run({"hooks": [hook], "runs": runs})
    logits, edited, seen = plain(model, module)
    for row, tokens in enumerate(ROWS):
        for got, want in (
            (outcome.tensor("plain/logits"), logits),
            (outcome.tensor("edited/logits"), edited),
            (outcome.captured(f"edited/h/{module}/0"), seen),
        ):
            torch.testing.assert_close(got[row, : len(tokens)], want[row], atol=2e-5, rtol=0)
        assert (edited[row] - logits[row]).abs().max() > 1e-3
    return outcome


def test_an_encoder_equals_plain_torch(bare_single: Gang, bert: Path) -> None:
    bare_single.load(bert)
    check(bare_single, AutoModelForMaskedLM.from_pretrained(bert), "bert.encoder.layer.0.intermediate.dense")
    hook = {"name": "g", "moduleName": "bert.encoder.layer.0.output", "hookType": "full_backward_pre"}
    loss = {"kind": "sumLogits", "position": -1}
    backward = {"name": "r", "mode": "backward", "inputs": {"tokenIds": ROWS}, "loss": loss}
    outcome = bare_single.run({"hooks": [hook], "runs": [backward]})
    gradient = outcome.tensor("r/g/bert.encoder.layer.0.output/0", "gradients.safetensors")
    assert gradient[0, 0].abs().max() > 1e-3, "the first token is seen from the last one's place, and sees it"


def test_tokens_as_a_tensor(bare_single: Gang, bert: Path) -> None:
    bare_single.load(bert)
    ids, digest = torch.tensor([ROWS[0]]), f"sha256:{'a' * 64}"
    inputs = {"tensors": {"input_ids": {"artifact": digest}}}
    stored = {digest: safetensors.torch.save({"input_ids": ids})}
    outcome = bare_single.run({"runs": [{"name": "r", "inputs": inputs, "return": {"logits": "all"}}]}, stored)
    with torch.no_grad():
        want = AutoModelForMaskedLM.from_pretrained(bert).eval()(ids).logits
    torch.testing.assert_close(outcome.tensor("r/logits"), want, atol=2e-5, rtol=0)


def test_an_encoder_is_not_asked_to_generate(bare_single: Gang, bert: Path) -> None:
    bare_single.load(bert)
    with pytest.raises(PatchbayError) as caught:
        bare_single.run({"runs": [{"mode": "generate", "inputs": {"tokenIds": ROWS}}]})
    assert (caught.value.code, caught.value.path) == ("PB_NOT_SUPPORTED", "runs[0].mode")


def test_an_encoder_on_several_ranks_is_refused(bare_pair: Gang, bert: Path) -> None:
    with pytest.raises(PatchbayError) as caught:
        bare_pair.load(bert)
    assert caught.value.code == "PB_NOT_SHARDABLE"


def test_a_model_of_images_and_text_reads_text(bare_single: Gang, llava: Path) -> None:
    bare_single.load(llava)
    check(bare_single, AutoModelForImageTextToText.from_pretrained(llava), "model.language_model.layers.0.mlp.up_proj")
    run = {"name": "r", "mode": "generate", "inputs": {"tokenIds": ROWS}, "maxNewTokens": 4}
    read = {"name": "v", "moduleName": "model.vision_tower.**.fc1"}
    outcome = bare_single.run({"hooks": [read], "runs": [run]})
    assert {entry["missing"] for entry in outcome.result["activations"]} == {"module-not-called"}
    model = AutoModelForImageTextToText.from_pretrained(llava).eval()
    for row, new in zip(ROWS, outcome.result["runs"]["r"]["generatedTokenIds"], strict=True):
        tokens = list(row)
        for _ in new:
            with torch.no_grad():
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        assert tokens[len(row) :] == new


def test_images_are_refused(bare_single: Gang, llava: Path) -> None:
    bare_single.load(llava)
    reference = {"artifact": f"sha256:{'a' * 64}"}
    inputs = {"tensors": {"input_ids": reference, "pixel_values": reference}}
    with pytest.raises(PatchbayError, match="pixel_values") as caught:
        bare_single.run({"runs": [{"inputs": inputs}]})
    assert caught.value.code == "PB_NOT_SUPPORTED"


def test_weights_that_are_not_there_are_not_drawn_at_random(bare_single: Gang, tmp_path: Path) -> None:
    BertModel(BertConfig(**BERT)).save_pretrained(tmp_path)
    with pytest.raises(PatchbayError, match="lacks") as caught:
        bare_single.load(tmp_path)
    assert caught.value.code == "PB_MODEL_LOAD_FAILED"


def test_an_architecture_without_logits_for_its_tokens(bare_single: Gang, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": 32, "d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(PatchbayError, match="t5") as caught:
        bare_single.load(tmp_path)
    assert caught.value.code == "PB_MODEL_LOAD_FAILED"
