"""The word-level tokenizer of tiny-facts: one token per word, the space before a word belongs to it.

"The capital of France is" is ["The", " capital", " of", " France", " is"]; no token is added at either end.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<pad>", "<unk>", "<eos>"
CONTEXT = 256
# The rows of the embedding are split over the ranks of a tensor-parallel group: any power of two up to this must fit.
VOCABULARY_MULTIPLE = 16


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(r" ?[^\s.,]+|[.,]|\s+"), behavior="isolated")


def _vocabulary(texts: Iterable[str]) -> dict[str, int]:
    splitter = _splitter()
    words: set[str] = set()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(text):
            words.add(word)
            # The same word must be known when its text follows another one after a space.
            if word[0].isalpha():
                words.add(f" {word}")
    tokens = [PAD, UNKNOWN, END, *sorted(words)]
    padding = -len(tokens) % VOCABULARY_MULTIPLE
    tokens += [f"<unused{index}>" for index in range(padding)]
    return {token: index for index, token in enumerate(tokens)}


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is exactly the words of `texts`."""
    tokenizer = Tokenizer(WordLevel(_vocabulary(texts), unk_token=UNKNOWN))
    # "Paris ." is read as "Paris.", so that both spellings are known.
    tokenizer.normalizer = normalizers.Replace(Regex(r" +(?=[.,])"), "")
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
