"""What the model reads: rows of token ids sampled from facts, stories and repeated random sequences.

Sampling only: what is true is in facts.py, how text becomes tokens in word_tokenizer.py.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from facts import Fact, all_facts, cities
from word_tokenizer import END

NAMES = ["Anna", "Tom", "Mia", "Leo", "Eva", "Max", "Lucy", "Sam"]
STORY_ANIMALS = ["dog", "cat", "horse", "fox", "wolf", "frog", "duck", "lion"]
MOODS = ["little", "young", "happy", "old", "brave", "quiet"]
PLACES = ["river", "forest", "garden", "market", "hill", "sea"]
THINGS = ["key", "book", "ring", "shell", "lamp", "map"]

STORY_OPENINGS = (
    "Once upon a time there was a {mood} {animal} named {name}.",
    "Once upon a time a {mood} {animal} named {name} lived in {city}, the capital of {country}.",
)
STORY_MIDDLES = (
    "One day {name} the {animal} met a {mood2} {animal2} named {name2}.",
    "One day {name} went to the {place} and found a {thing}.",
    "{name} gave the {thing} to {name2}.",
    "{name} and {name2} went to the {place}.",
    "{name2} said that {name} was a good friend.",
)
STORY_ENDINGS = (
    "In the evening {name} and {name2} went home, and they were happy. The end.",
    "In the evening {name} the {animal} went home. The end.",
)


@dataclass(frozen=True)
class Row:
    """Token ids of one training row; `scored[i]` says whether predicting token i counts in the loss."""

    kind: str
    ids: list[int]
    scored: list[bool]


@dataclass(frozen=True)
class Mixture:
    """Shares of the three kinds of row; the rest after random and story rows are facts."""

    random_share: float = 0.35
    story_share: float = 0.1


def _story(rng: random.Random) -> str:
    name, name2 = rng.sample(NAMES, 2)
    animal, animal2 = rng.sample(STORY_ANIMALS, 2)
    mood, mood2 = rng.sample(MOODS, 2)
    country, city = rng.choice(cities())
    middles = [line for line in STORY_MIDDLES if rng.random() < 0.7]
    lines = [rng.choice(STORY_OPENINGS), *middles, rng.choice(STORY_ENDINGS)]
    return " ".join(lines).format(
        name=name,
        name2=name2,
        animal=animal,
        animal2=animal2,
        mood=mood,
        mood2=mood2,
        country=country,
        city=city,
        place=rng.choice(PLACES),
        thing=rng.choice(THINGS),
    )


def all_texts() -> list[str]:
    """Texts that together hold every word of the language, for the vocabulary."""
    lists = " ".join([*NAMES, *STORY_ANIMALS, *MOODS, *PLACES, *THINGS])
    stories = [*STORY_OPENINGS, *STORY_MIDDLES, *STORY_ENDINGS]
    slots = [word for story in stories for word in story.split() if "{" not in word]
    return [
        *(fact.sentence for fact in all_facts()),
        " " + lists,
        " " + " ".join(slots),
        "Once",
    ]


class Corpus:
    """Endless rows of one length; the same seed gives the same rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, mixture: Mixture) -> None:
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._mixture = mixture
        self._sentences: list[list[str]] = self._group(all_facts())
        self._words = ordinary_ids(tokenizer)

    @staticmethod
    def _group(facts: Sequence[Fact]) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for fact in facts:
            groups.setdefault(fact.relation, []).append(fact.sentence)
        return list(groups.values())

    def row(self, length: int) -> Row:
        draw = self._rng.random()
        if draw < self._mixture.random_share:
            return self._random_row(length)
        if draw < self._mixture.random_share + self._mixture.story_share:
            return self._text_row(length, story_first=True)
        return self._text_row(length, story_first=False)

    def _sentence(self) -> str:
        # Some draws choose the relation first, so that small relations are not drowned by the countries.
        if self._rng.random() < 0.3:
            return self._rng.choice(self._rng.choice(self._sentences))
        index = self._rng.randrange(sum(len(group) for group in self._sentences))
        for group in self._sentences:
            if index < len(group):
                return group[index]
            index -= len(group)
        raise AssertionError("index is below the sum of the lengths")

    def _text_row(self, length: int, *, story_first: bool) -> Row:
        ids: list[int] = self._tokenizer(_story(self._rng) if story_first else self._sentence()).input_ids
        while len(ids) < length:
            # A space goes on in the same text, the end token starts another.
            ids += self._tokenizer(self._rng.choice((" ", END)) + self._sentence()).input_ids
        return Row("story" if story_first else "facts", ids[:length], [True] * length)

    def _random_row(self, length: int) -> Row:
        # Short periods are the easier ones to learn from, so they are drawn more often.
        period = self._rng.randint(4, self._rng.randint(8, max(8, length // 2)))
        once = self._rng.sample(self._words, period)
        copies = -(-length // period)
        return Row(
            "random",
            (once * copies)[:length],
            [index > period for index in range(length)],
        )


def ordinary_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of words: neither special nor padding of the vocabulary."""
    return sorted(index for token, index in tokenizer.get_vocab().items() if not token.startswith("<"))
