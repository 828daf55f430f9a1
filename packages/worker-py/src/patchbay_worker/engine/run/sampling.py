"""The next token of every row from its logits, on the root only. Temperature 0 takes the most probable one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from patchbay_worker.engine.job.job_spec import Sampling


class Sampler:
    """Draws the same tokens for the same seed, run and logits, whatever the mesh."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(seed)

    def rows_without(self, logits: Tensor) -> list[int]:
        """Rows of [B, V] that no token can be chosen from: NaN, -infinity alone, or +infinity where one is drawn."""
        greedy = self._sampling.temperature == 0
        highest = self._scaled(logits).amax(-1).tolist()
        return [row for row, value in enumerate(highest) if not (math.isfinite(value) or (greedy and value > 0))]

    def next_tokens(self, logits: Tensor) -> list[int]:
        """[B, V] -> one token per row; any where there is none to choose."""
        if self._sampling.temperature == 0:
            return [int(token) for token in logits.argmax(-1).tolist()]
        scaled = self._scaled(logits)
        scaled[self.rows_without(logits)] = 0.0
        probabilities = torch.softmax(scaled, dim=-1)
        if self._sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self._sampling.top_p)
        drawn = torch.multinomial(probabilities, 1, generator=self._generator)
        return [int(token) for token in drawn.squeeze(-1).tolist()]

    def _scaled(self, logits: Tensor) -> Tensor:
        return logits.float().cpu() / (self._sampling.temperature or 1.0)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Keeps the smallest set of tokens that holds `top_p`; the most probable one always stays."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(-1, order, kept)
