"""A run's inputs as token ids, padded on the right, with the mask and the positions that ragged rows need.

Every rank does this for itself: it is cheaper than sending tokens round. Not here: what hooks see (hooks/selection).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from patchbay_worker.engine.job.job_spec import Json, RunRequest
from patchbay_worker.errors import error

Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class TokenBatch:
    """`tokens[r]` are the real tokens of row r; the tensors are [B, width]."""

    tokens: list[list[int]]
    lengths: list[int]
    width: int
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor

    @property
    def ragged(self) -> bool:
        return min(self.lengths) < self.width


@dataclass(frozen=True)
class Share:
    """The rows of one data parallel copy: `real` of the job's, from row `start` on, then copies of row 0 as padding."""

    batch: TokenBatch
    start: int
    real: int
    padded_rows: int  # of all copies


def share_of(batch: TokenBatch, copy: int, copies: int) -> Share:
    """Equal shares, in order."""
    rows = len(batch.tokens)
    if copies == 1:
        return Share(batch, 0, rows, rows)
    size = -(-rows // copies)
    start = copy * size
    chosen = [row if row < rows else 0 for row in range(start, start + size)]
    part = TokenBatch(
        tokens=[batch.tokens[row] for row in chosen],
        lengths=[batch.lengths[row] for row in chosen],
        width=batch.width,
        input_ids=batch.input_ids[chosen],
        attention_mask=batch.attention_mask[chosen],
        position_ids=batch.position_ids[chosen],
    )
    return Share(part, start, max(0, min(size, rows - start)), size * copies)


@dataclass(frozen=True)
class InputLimits:
    model: str
    vocabulary: int
    positions: int | None
    pad_id: int
    device: torch.device


def read_inputs(
    run: RunRequest, tokenizer: Any | None, limits: InputLimits, fetch: Fetch, warnings: list[str]
) -> TokenBatch:
    tokens, path = _token_ids(run, tokenizer, limits.model, fetch, warnings)
    room = run.sampling.max_new_tokens if run.sampling is not None else 0
    for row, ids in enumerate(tokens):
        _check_row(ids, f"{path}[{row}]", room, limits)
    return pad(tokens, limits)


def pad(tokens: list[list[int]], limits: InputLimits) -> TokenBatch:
    lengths = [len(ids) for ids in tokens]
    width = max(lengths)
    ids = torch.tensor([row + [limits.pad_id] * (width - len(row)) for row in tokens], device=limits.device)
    columns = torch.arange(width, device=limits.device).expand(len(tokens), width).contiguous()
    mask = torch.ones_like(ids)
    if min(lengths) < width:
        mask = (columns < torch.tensor(lengths, device=limits.device)[:, None]).long()
    return TokenBatch(tokens, lengths, width, ids, mask, columns)


def _check_row(ids: list[int], path: str, room: int, limits: InputLimits) -> None:
    if not ids:
        raise error("PB_PROMPT_EMPTY", path=path)
    for index, token in enumerate(ids):
        if not 0 <= token < limits.vocabulary:
            where = f"{path}[{index}]"
            raise error("PB_TOKEN_OUT_OF_RANGE", path=where, token=token, size=limits.vocabulary)
    if limits.positions is not None and len(ids) + room > limits.positions:
        raise error("PB_PROMPT_TOO_LONG", path=path, tokens=len(ids) + room, limit=limits.positions)


def _token_ids(
    run: RunRequest, tokenizer: Any | None, model: str, fetch: Fetch, warnings: list[str]
) -> tuple[list[list[int]], str]:
    inputs, path = run.inputs, f"{run.path}.inputs"
    if "tokenIds" in inputs:
        return [list(ids) for ids in inputs["tokenIds"]], f"{path}.tokenIds"
    if "tensors" in inputs:
        return _from_tensors(inputs["tensors"], f"{path}.tensors", fetch), f"{path}.tensors.input_ids"
    kind = "text" if "text" in inputs else "chat"
    if tokenizer is None:
        raise error("PB_TOKENIZER_MISSING", path=path, model=model, what=kind)
    if kind == "chat":
        return [_chat(messages, tokenizer, model, path) for messages in inputs["chat"]], f"{path}.chat"
    rows = [list(tokenizer(text)["input_ids"]) if text else [] for text in inputs["text"]]
    _warn_unknown(rows, inputs["text"], tokenizer, f"{path}.text", warnings)
    return rows, f"{path}.text"


def _chat(messages: list[Json], tokenizer: Any, model: str, path: str) -> list[int]:
    if tokenizer.chat_template is None:
        raise error("PB_TOKENIZER_MISSING", path=path, model=model, what="chat")
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(encoded["input_ids"])


def _from_tensors(references: Json, path: str, fetch: Fetch) -> list[list[int]]:
    if set(references) != {"input_ids"}:
        raise error("PB_NOT_SUPPORTED", path=path, what=f"tensor inputs other than input_ids ({', '.join(references)})")
    digest = references["input_ids"]["artifact"]
    try:
        tensors = safetensors.torch.load(fetch(digest))
    except SafetensorError as failure:
        raise error("PB_ARTIFACT_CORRUPT", path=path, artifact=digest, reason=str(failure)) from failure
    tensor = tensors.get("input_ids", next(iter(tensors.values()))) if tensors else torch.empty(0)
    if tensor.ndim != 2 or tensor.is_floating_point():
        reason = f"input_ids are {list(tensor.shape)} of {tensor.dtype}, [rows, tokens] of integers are needed"
        raise error("PB_ARTIFACT_CORRUPT", path=path, artifact=digest, reason=reason)
    return [[int(token) for token in row] for row in tensor.tolist()]


def _warn_unknown(rows: list[list[int]], texts: list[str], tokenizer: Any, path: str, warnings: list[str]) -> None:
    """A word-level vocabulary maps what it does not know to one token; results would be about another prompt."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    for row, ids in enumerate(rows):
        if unknown in ids:
            offsets = tokenizer(texts[row], return_offsets_mapping=True)["offset_mapping"] if tokenizer.is_fast else []
            spans = [span for token, span in zip(ids, offsets, strict=False) if token == unknown]
            words = ", ".join(repr(texts[row][start:end].strip()) for start, end in spans)
            warnings.append(f"{path}[{row}]: not in the vocabulary, read as {tokenizer.unk_token}: {words}")
