"""The KV cache of one pipeline stage. Not here: which layers a stage owns (transformers)."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache


class StageCache(DynamicCache):
    """transformers sizes masks by what the first layer of a kind has seen. A later stage never runs that layer, so its
    masks would be of one token and let padding through: the stage's own first layer of the kind answers instead.
    """

    def __init__(self, config: Any, own: range) -> None:
        super().__init__(config=config)
        self._own = own

    def _stand_in(self, layer: int) -> int:
        kinds = self.is_sliding
        if layer in self._own or layer >= len(kinds):
            return layer
        return next((index for index in self._own if kinds[index] == kinds[layer]), layer)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(super().get_seq_length(self._stand_in(layer_idx)))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        length, offset = super().get_mask_sizes(query_length, self._stand_in(layer_idx))
        return length, offset
