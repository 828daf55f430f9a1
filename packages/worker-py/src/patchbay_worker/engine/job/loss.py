"""The scalar that a run differentiates: checked against the run's inputs, then computed from its logits.

All in float32. `nextToken` is the mean over every real token that has one before it; `logitDiff` and `sumLogits` are
sums over the rows, so the gradient of a row does not depend on how many rows stand beside it.
Not here: a loss of the user's own (engine/run/sandbox_loss.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from patchbay_worker.engine.job.inputs import InputLimits, Share, TokenBatch
from patchbay_worker.errors import PatchbayError, error

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Loss:
    """`columns` are the chosen positions, one per row; None means all of them. `source` is of a python loss."""

    kind: Literal["nextToken", "logitDiff", "sumLogits", "python"]
    columns: list[int] | None = None
    target: int = 0
    foil: int = 0
    source: int | None = None

    def of(self, logits: Tensor, share: Share, whole: TokenBatch) -> Tensor:
        """[B, S, V] of a copy's rows -> its part of the scalar; the parts of all copies add up."""
        batch, real = share.batch, share.real
        values, mask = logits[:real].float(), batch.attention_mask[:real]
        if self.kind == "nextToken":
            labels = batch.input_ids[:real].masked_fill(mask == 0, -100)[:, 1:]
            total = functional.cross_entropy(values[:, :-1].flatten(0, 1), labels.flatten(), reduction="sum")
            return total / sum(length - 1 for length in whole.lengths)
        if self.columns is None:
            return (values * mask[..., None]).sum()
        # A copy may have none of the rows, and an empty list alone would be one of floats.
        chosen_columns = self.columns[share.start : share.start + real]
        columns = torch.tensor(chosen_columns, dtype=torch.int64, device=values.device)
        chosen = values[torch.arange(real, device=values.device), columns]
        if self.kind == "sumLogits":
            return chosen.sum()
        return (chosen[:, self.target] - chosen[:, self.foil]).sum()


def compile_loss(
    wanted: Json, run: str, path: str, batch: TokenBatch, tokenizer: Any | None, limits: InputLimits, source: int | None
) -> Loss:
    """Raises PB_LOSS_INVALID, PB_TOKEN_AMBIGUOUS, PB_TOKEN_OUT_OF_RANGE or PB_TOKENIZER_MISSING."""
    kind = wanted["kind"]
    if kind == "nextToken" and max(batch.lengths) < 2:
        raise _invalid(run, path, "nextToken needs a prompt of two tokens or more")
    if kind in ("nextToken", "python"):
        return Loss(kind, source=source)
    position = wanted.get("position")
    columns = None if position is None else _columns(position, run, path, batch)
    if kind == "sumLogits":
        return Loss("sumLogits", columns)
    target, foil = (_token(wanted[name], f"{path}.{name}", tokenizer, limits) for name in ("target", "foil"))
    if target == foil:
        raise _invalid(run, path, f"target and foil are the same token, {target}")
    return Loss("logitDiff", columns, target, foil)


def _columns(position: int, run: str, path: str, batch: TokenBatch) -> list[int]:
    columns = [position + length if position < 0 else position for length in batch.lengths]
    for row, (column, length) in enumerate(zip(columns, batch.lengths, strict=True)):
        if not 0 <= column < length:
            raise _invalid(run, f"{path}.position", f"row {row} has {length} tokens, there is no position {position}")
    return columns


def _token(wanted: str | int, path: str, tokenizer: Any | None, limits: InputLimits) -> int:
    if isinstance(wanted, str):
        if tokenizer is None:
            raise error("PB_TOKENIZER_MISSING", path=path, model=limits.model, what="a token given as text")
        ids = tokenizer(wanted, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            count = 0 if ids == [tokenizer.unk_token_id] else len(ids)
            raise error("PB_TOKEN_AMBIGUOUS", path=path, text=wanted, tokens=count)
        return int(ids[0])
    if wanted >= limits.vocabulary:
        raise error("PB_TOKEN_OUT_OF_RANGE", path=path, token=wanted, size=limits.vocabulary)
    return wanted


def _invalid(run: str, path: str, reason: str) -> PatchbayError:
    return error("PB_LOSS_INVALID", path=path, run=run, reason=reason)
