"""The cache of a pipeline stage. transformers makes its masks from how much the first layer of a kind has cached, and
on a later stage that layer is another's and stays empty: padding would then be attended to, silently.
"""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.distributed.pipeline_parallel import PipelineIdentityLayer


class StageCache(DynamicCache):
    """Answers for a layer of another stage with this stage's first one of the same kind, which has seen as much."""

    def __init__(self, model: Any) -> None:
        super().__init__(config=model.config)
        layers = getattr(model, model.base_model_prefix).layers
        self._own = [index for index, layer in enumerate(layers) if not isinstance(layer, PipelineIdentityLayer)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(super().get_seq_length(self._counterpart(layer_idx)))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        length, offset = super().get_mask_sizes(query_length, self._counterpart(layer_idx))
        return length, offset

    def _counterpart(self, layer: int) -> int:
        kind = type(self.layers[layer])
        alike = [own for own in self._own if type(self.layers[own]) is kind]
        return layer if layer in self._own or not alike else alike[0]
