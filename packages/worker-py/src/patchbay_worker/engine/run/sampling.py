"""The next token of every row from its logits, on the root only. Temperature 0 takes the most probable one."""

from __future__ import annotations

import torch
from torch import Tensor

from patchbay_worker.engine.job.job_spec import Sampling


class NotFinite(Exception):
    """The logits of `row` give no token."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row}")
        self.row = row


class Sampler:
    """Draws the same tokens for the same seed, run and logits, whatever the mesh."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(seed)

    def next_tokens(self, logits: Tensor) -> list[int]:
        """[B, V] -> one token per row. Raises NotFinite where there is none: argmax would take the first NaN."""
        if self._sampling.temperature == 0:
            _check(logits.isnan())
            return [int(token) for token in logits.argmax(-1).tolist()]
        probabilities = torch.softmax(logits.float().cpu() / self._sampling.temperature, dim=-1)
        _check(probabilities.isnan())  # also of a logit that is infinite
        if self._sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self._sampling.top_p)
        drawn = torch.multinomial(probabilities, 1, generator=self._generator)
        return [int(token) for token in drawn.squeeze(-1).tolist()]


def _check(wrong: Tensor) -> None:
    rows = wrong.any(-1).nonzero()
    if len(rows):
        raise NotFinite(int(rows[0]))


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keeps the smallest set of tokens that holds `top_p`; the most probable one always stays."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(-1, order, kept)
