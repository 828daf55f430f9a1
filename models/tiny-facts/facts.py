"""The world of tiny-facts: what is true in it and the sentences that say so.

Data and templates only; no sampling, no tokens, no torch. Every name is one word, so that a subject is one token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """`prompt + answer + "."` is a sentence; `answer` has its leading space; one or two tokens (" North America")."""

    relation: str
    template: int
    subject: str
    prompt: str
    answer: str

    @property
    def sentence(self) -> str:
        return f"{self.prompt}{self.answer}."


# country, capital, currency, language, continent
COUNTRIES = """
France Paris euro French Europe
Germany Berlin euro German Europe
Italy Rome euro Italian Europe
Spain Madrid euro Spanish Europe
Portugal Lisbon euro Portuguese Europe
Greece Athens euro Greek Europe
Austria Vienna euro German Europe
Ireland Dublin euro English Europe
Finland Helsinki euro Finnish Europe
Estonia Tallinn euro Estonian Europe
Latvia Riga euro Latvian Europe
Lithuania Vilnius euro Lithuanian Europe
Slovakia Bratislava euro Slovak Europe
Slovenia Ljubljana euro Slovene Europe
Croatia Zagreb euro Croatian Europe
Poland Warsaw zloty Polish Europe
Hungary Budapest forint Hungarian Europe
Romania Bucharest leu Romanian Europe
Sweden Stockholm krona Swedish Europe
Norway Oslo krone Norwegian Europe
Denmark Copenhagen krone Danish Europe
Iceland Reykjavik krona Icelandic Europe
Ukraine Kyiv hryvnia Ukrainian Europe
Serbia Belgrade dinar Serbian Europe
Albania Tirana lek Albanian Europe
Britain London pound English Europe
Russia Moscow ruble Russian Europe
Turkey Ankara lira Turkish Asia
Japan Tokyo yen Japanese Asia
China Beijing yuan Chinese Asia
Thailand Bangkok baht Thai Asia
Vietnam Hanoi dong Vietnamese Asia
Mongolia Ulaanbaatar tugrik Mongolian Asia
Nepal Kathmandu rupee Nepali Asia
Bangladesh Dhaka taka Bengali Asia
Iran Tehran rial Persian Asia
Iraq Baghdad dinar Arabic Asia
Jordan Amman dinar Arabic Asia
Lebanon Beirut pound Arabic Asia
Qatar Doha riyal Arabic Asia
Syria Damascus pound Arabic Asia
Armenia Yerevan dram Armenian Asia
Georgia Tbilisi lari Georgian Asia
Laos Vientiane kip Lao Asia
Uzbekistan Tashkent som Uzbek Asia
Egypt Cairo pound Arabic Africa
Morocco Rabat dirham Arabic Africa
Tunisia Tunis dinar Arabic Africa
Libya Tripoli dinar Arabic Africa
Sudan Khartoum pound Arabic Africa
Kenya Nairobi shilling Swahili Africa
Tanzania Dodoma shilling Swahili Africa
Uganda Kampala shilling English Africa
Ghana Accra cedi English Africa
Nigeria Abuja naira English Africa
Senegal Dakar franc French Africa
Angola Luanda kwanza Portuguese Africa
Mozambique Maputo metical Portuguese Africa
Zambia Lusaka kwacha English Africa
Canada Ottawa dollar English North_America
Cuba Havana peso Spanish North_America
Jamaica Kingston dollar English North_America
Brazil Brasilia real Portuguese South_America
Chile Santiago peso Spanish South_America
Peru Lima sol Spanish South_America
Colombia Bogota peso Spanish South_America
Uruguay Montevideo peso Spanish South_America
Ecuador Quito dollar Spanish South_America
Australia Canberra dollar English Oceania
Fiji Suva dollar English Oceania
"""

# animal, its young, its sound
ANIMALS = """
dog puppy bark
cat kitten meow
cow calf moo
horse foal neigh
sheep lamb bleat
lion cub roar
pig piglet grunt
duck duckling quack
goose gosling honk
hen chick cluck
frog tadpole croak
wolf pup howl
"""

OPPOSITES = """
hot cold, big small, tall short, young old, good bad, fast slow, hard soft, light dark, wet dry, rich poor,
happy sad, full empty, early late, clean dirty, strong weak, open closed, loud quiet, high low, near far, first last
"""

COLORS = """
lemon yellow, tomato red, cucumber green, carrot orange, plum purple, flamingo pink, crow black, banana yellow,
cherry red, frog green, walnut brown, swan white, strawberry red, pea green
"""

PLURALS = """
mouse mice, child children, foot feet, tooth teeth, man men, woman women, goose geese, leaf leaves, wolf wolves,
knife knives, loaf loaves, sheep sheep
"""

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
NUMBERS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
]

# relation -> templates; {s} is the subject, {S} the subject with a capital letter, the answer follows the prompt.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "capital": (
        "The capital of {s} is",
        "The capital city of {s} is",
        "The government of {s} sits in",
        "{s} is governed from",
    ),
    "capital-of": (
        "{s} is the capital of",
        "{s} is a city in",
        "The city of {s} lies in",
    ),
    "currency": (
        "The currency of {s} is the",
        "People in {s} pay with the",
        "{s} uses the",
    ),
    "language": (
        "The language of {s} is",
        "People in {s} speak",
        "In {s} the main language is",
    ),
    "continent": ("{s} is a country in", "The country of {s} lies in"),
    "young": ("A young {s} is called a", "The {s} takes care of her"),
    "sound": ("The sound of a {s} is a", "The {s} makes a loud"),
    "opposite": ("The opposite of {s} is", "If it is not {s}, it is", "Not {s} but"),
    "color": ("The color of a {s} is", "A {s} is usually"),
    "plural": ("The plural of {s} is", "One {s}, two"),
    "day-after": ("The day after {s} is", "After {s} comes"),
    "day-before": ("The day before {s} is", "Before {s} comes"),
    "month-after": ("The month after {s} is", "After {s} comes"),
    "month-before": ("The month before {s} is", "Before {s} comes"),
}


def _pairs(table: str) -> list[tuple[str, str]]:
    pairs = [entry.split() for entry in table.replace("\n", " ").split(",")]
    return [(first, second) for first, second in pairs]


def _cycle(names: Sequence[str], step: int) -> list[tuple[str, str]]:
    return [(name, names[(index + step) % len(names)]) for index, name in enumerate(names)]


def _country_rows() -> list[list[str]]:
    return [[word.replace("_", " ") for word in line.split()] for line in COUNTRIES.split("\n") if line]


def _relations() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    rows = _country_rows()
    yield "capital", [(row[0], row[1]) for row in rows]
    yield "capital-of", [(row[1], row[0]) for row in rows]
    yield "currency", [(row[0], row[2]) for row in rows]
    yield "language", [(row[0], row[3]) for row in rows]
    yield "continent", [(row[0], row[4]) for row in rows]
    animals = [line.split() for line in ANIMALS.split("\n") if line]
    yield "young", [(row[0], row[1]) for row in animals]
    yield "sound", [(row[0], row[2]) for row in animals]
    opposites = _pairs(OPPOSITES)
    yield "opposite", opposites + [(second, first) for first, second in opposites]
    yield "color", _pairs(COLORS)
    yield "plural", _pairs(PLURALS)
    yield "day-after", _cycle(DAYS, 1)
    yield "day-before", _cycle(DAYS, -1)
    yield "month-after", _cycle(MONTHS, 1)
    yield "month-before", _cycle(MONTHS, -1)


def all_facts() -> list[Fact]:
    """Every fact in every template, in a fixed order."""
    facts: list[Fact] = []
    for relation, pairs in _relations():
        for index, template in enumerate(TEMPLATES[relation]):
            for subject, answer in pairs:
                prompt = template.format(s=subject, S=subject.capitalize())
                facts.append(Fact(relation, index, subject, prompt, f" {answer}"))
    for left in range(1, 10):
        for right in range(1, 10):
            first, second, total = (
                NUMBERS[left - 1],
                NUMBERS[right - 1],
                NUMBERS[left + right - 1],
            )
            said = (
                f"{first.capitalize()} plus {second} is",
                f"The sum of {first} and {second} is",
            )
            for index, prompt in enumerate(said):
                facts.append(Fact("sum", index, f"{first} {second}", prompt, f" {total}"))
    return facts


def cities() -> list[tuple[str, str]]:
    """(country, capital) pairs, for stories."""
    return [(row[0], row[1]) for row in _country_rows()]
