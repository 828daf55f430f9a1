"""Token id -> its text as it stands in a sentence, leading space included. Not here: text -> ids (inputs.py)."""

from __future__ import annotations

from typing import Any

WORD_STARTS = ("▁", "Ġ")  # how sentencepiece and byte-level vocabularies write a leading space


class TokenTexts:
    """Remembers what it has looked up; without a tokenizer every text is empty."""

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}

    @property
    def known(self) -> bool:
        return self._tokenizer is not None

    def text(self, token: int) -> str:
        found = self._texts.get(token)
        if found is None:
            found = self._texts[token] = self._look_up(token)
        return found

    def texts(self, tokens: list[int]) -> list[str]:
        return [self.text(token) for token in tokens]

    def join(self, tokens: list[int]) -> str:
        """Generated tokens as text, without the special ones."""
        if self._tokenizer is None:
            return ""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _look_up(self, token: int) -> str:
        if self._tokenizer is None:
            return ""
        text = str(self._tokenizer.decode([token]))
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if isinstance(piece, str) and piece.startswith(WORD_STARTS) and not text.startswith(" "):
            return f" {text}"
        return text
