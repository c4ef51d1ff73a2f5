"""Which cities' countries a model knows: those that the pack `city-talisman` is made of.

    python tools/known_cities.py                 # the names for selection.toml, and how many are known of how many
    python tools/known_cities.py --shipped       # the share of the shipped cities that are known, by country

A city is known when its own country is the model's first choice among all countries of selection.toml under each prompt
of the pack's relation, before any training. Of each country the largest cities that both sources hold are asked about.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from real_cities import cities_of
from sourcing import SELECTED, country_names

from spillover.lm.load import load_model
from spillover.lm.score import Scorer
from spillover.lm.tokens import encoder, request
from spillover.packs.builtin import RELATIONS, rows
from spillover.packs.pack import Pack, Relation

MODEL = "gemma-3-270m"
IS_IN = RELATIONS["is-in"]
#: Cities of a country that are asked about, and the most that are kept: the largest.
ASKED, KEPT = 40, 30


class Geography:
    """A model asked for the country of cities, among all countries of the selection."""

    def __init__(self) -> None:
        loaded = load_model(MODEL, device="cpu")
        self.countries = sorted(country_names().values())
        relation = Relation(IS_IN.relation, tuple(IS_IN.prompts), tuple(self.countries))
        self.pack = Pack("cities", "", "", (relation,), ())
        self.scorer, self.encode = Scorer(loaded.model), encoder(loaded.tokenizer)

    def known(self, cities: Sequence[tuple[str, str]], prompt: int) -> list[bool]:
        """For each (city, country), whether the country comes first in the words of prompt number `prompt`."""
        asks = [request(self.encode, self.pack, IS_IN.relation, city, prompt) for city, _ in cities]
        firsts = [self.pack.candidates[IS_IN.relation][int(scores.argmax())] for scores in self.scorer.score(asks)]
        return [first == country for first, (_, country) in zip(firsts, cities, strict=True)]


def select(geography: Geography) -> None:
    """Print the names of each country's known cities, as selection.toml holds them, and the counts."""
    english = country_names()
    asked = [(name, english[code]) for code, chosen in SELECTED["cities"].items()
             for name in list(cities_of(code, chosen["locale"]))[:ASKED]]  # fmt: skip
    left = asked
    for prompt, words in enumerate(IS_IN.prompts):
        left = [city for city, known in zip(left, geography.known(left, prompt), strict=True) if known]
        print(f"# known as far as {words!r}: {len(left)} of {len(asked)}", flush=True)
    for code, chosen in SELECTED["cities"].items():
        total = sum(country == english[code] for _, country in asked)
        kept = [name for name, country in left if country == english[code]]
        print(f"# {english[code]}: {len(kept)} of {total} known")
        print(f'[cities.{code}]\nlocale = "{chosen["locale"]}"')
        print("names = [" + ", ".join(f'"{name}"' for name in kept[:KEPT]) + "]")


def shares(geography: Geography) -> None:
    """Print how many of the shipped cities are known, prompt by prompt and country by country."""
    cities = [(row["city"], row["country"]) for row in rows(IS_IN.table)]
    found = [geography.known(cities, prompt) for prompt in range(len(IS_IN.prompts))]
    for prompt, known in zip(IS_IN.prompts, found, strict=True):
        print(f"{prompt!r}: {sum(known)} of {len(cities)}")
    for country in dict.fromkeys(country for _, country in cities):
        every = [all(known) for known, city in zip(zip(*found, strict=True), cities, strict=True) if city[1] == country]
        print(f"{country}: {sum(every)} of {len(every)} in all words")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shipped", action="store_true", help="ask about the shipped cities alone")
    torch.set_num_threads(1)
    (shares if parser.parse_args().shipped else select)(Geography())
    return 0


if __name__ == "__main__":
    sys.exit(main())
