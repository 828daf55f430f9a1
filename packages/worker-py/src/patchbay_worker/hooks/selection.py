"""Which token slots of a call a hook sees, and the labels of their rows. Positions are absolute and count real tokens.

A call holds `width` columns of every batch row, real tokens first (right padding). A selection is a grid of chosen
rows by slots; where rows have different numbers of chosen tokens, slots are padded with zeros, never written back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from patchbay_worker.hooks.spec import Span, Where


@dataclass(frozen=True)
class TokenView:
    """The tokens of one forward call. `tokens[r]` are row r's real ones, the first at absolute position `start[r]`."""

    step: int
    tokens: list[list[int]]
    start: list[int]
    width: int
    prompt_lengths: list[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def ragged(self) -> bool:
        return min(self.prompt_lengths) < max(self.prompt_lengths)


@dataclass(frozen=True)
class Selection:
    """`rows[i]` is a batch row, `columns[i]` its chosen columns in the call; `whole` needs no copying. Without
    `of_tokens` a tensor that does not hold tokens is chosen whole.
    """

    view: TokenView
    rows: list[int]
    columns: list[list[int]]
    width: int
    whole: bool
    of_tokens: bool = False

    @cached_property
    def lengths(self) -> list[int]:
        return [len(columns) for columns in self.columns]

    @cached_property
    def token_ids(self) -> list[list[int]]:
        tokens = self.view.tokens
        if self.whole:
            return tokens
        return [
            [tokens[row][column] for column in columns] for row, columns in zip(self.rows, self.columns, strict=True)
        ]

    @cached_property
    def positions(self) -> list[list[int]]:
        start = self.view.start
        return [
            [start[row] + column for column in columns] for row, columns in zip(self.rows, self.columns, strict=True)
        ]

    @cached_property
    def batch(self) -> dict[str, Any]:
        """What the edit is told about its rows."""
        return {
            "rows": self.rows,
            "lengths": self.lengths,
            "token_ids": self.token_ids,
            "positions": self.positions,
            "padding": "right",
        }

    @cached_property
    def labels(self) -> list[dict[str, int] | None]:
        """One per slot, row by row; None for padding."""
        labels: list[dict[str, int] | None] = []
        for row, positions, tokens in zip(self.rows, self.positions, self.token_ids, strict=True):
            labels += [
                {"row": row, "position": position, "tokenId": token, "step": self.view.step}
                for position, token in zip(positions, tokens, strict=True)
            ]
            labels += [None] * (self.width - len(positions))
        return labels

    @cached_property
    def mask(self) -> Tensor | None:
        """True for slots that hold a token; None when all do."""
        if all(length == self.width for length in self.lengths):
            return None
        columns = torch.arange(self.width, device=self.view.device)
        return columns < torch.tensor(self.lengths, device=self.view.device)[:, None]

    @cached_property
    def _source(self) -> tuple[Tensor, Tensor]:
        rows = [row for row, columns in zip(self.rows, self.columns, strict=True) for _ in columns]
        columns = [column for columns in self.columns for column in columns]
        device = self.view.device
        return torch.tensor(rows, device=device), torch.tensor(columns, device=device)

    def take(self, value: Tensor) -> Tensor:
        """[B, S, ..] -> [rows, width, ..]; the value itself when whole, else a copy."""
        if self.whole:
            return value
        chosen = value[self._source]
        if self.mask is None:
            return chosen.view(len(self.rows), self.width, *value.shape[2:])
        grid = value.new_zeros((len(self.rows), self.width, *value.shape[2:]))
        grid[self.mask] = chosen
        return grid

    def put(self, value: Tensor, edited: Tensor) -> Tensor:
        """A copy of [B, S, ..] with the chosen slots taken from `edited`."""
        if self.whole:
            return edited
        result = value.clone()
        result[self._source] = edited.flatten(0, 1) if self.mask is None else edited[self.mask]
        return result


def _bound(position: int, prompt_length: int) -> int:
    return position + prompt_length if position < 0 else position


def _chosen_columns(view: TokenView, row: int, positions: tuple[int, ...] | Span | None) -> list[int]:
    """In the order asked for. A token named twice (-1 and 4 of five) is chosen once, or its gradient would double."""
    count, start, prompt = len(view.tokens[row]), view.start[row], view.prompt_lengths[row]
    if positions is None:
        return list(range(count))
    if isinstance(positions, Span):
        first = _bound(positions.start, prompt) if positions.start is not None else 0
        last = _bound(positions.stop, prompt) if positions.stop is not None else start + count
        return list(range(max(first - start, 0), min(last - start, count)))
    columns = dict.fromkeys(_bound(position, prompt) - start for position in positions)
    return [column for column in columns if 0 <= column < count]


def select(where: Where | None, view: TokenView) -> Selection | None:
    """The selection of a call, or None when it holds none of the chosen tokens."""
    if where is None:
        rows = list(range(len(view.tokens)))
        return Selection(view, rows, [list(range(len(tokens))) for tokens in view.tokens], view.width, whole=True)
    if where.steps is not None and view.step not in where.steps:
        return None
    rows = list(dict.fromkeys(where.rows)) if where.rows is not None else list(range(len(view.tokens)))
    chosen = [(row, _chosen_columns(view, row, where.positions)) for row in rows]
    kept = [(row, columns) for row, columns in chosen if columns]
    if not kept:
        return None
    columns = [columns for _, columns in kept]
    rows = [row for row, _ in kept]
    return Selection(view, rows, columns, max(map(len, columns)), whole=False, of_tokens=where.of_tokens)
