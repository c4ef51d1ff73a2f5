"""`popqa:PATH` on synthetic rows with PopQA's columns, as TSV and as Parquet; what is not PopQA is one sentence."""

import csv
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spillover.cli import main
from spillover.errors import UsageError
from spillover.packs.check import check_structure
from spillover.packs.open import open_pack

COLUMNS = ["id", "subj", "prop", "obj", "subj_id", "prop_id", "obj_id", "s_aliases", "o_aliases",
    "s_uri", "o_uri", "s_wiki_title", "o_wiki_title", "s_pop", "o_pop", "question", "possible_answers"]  # fmt: skip
TOWNS = [f"Town {letter}" for letter in "ABCDEFGHIJKL"]
SPORTS = [f"{letter}-ball" for letter in "abcdefghijk"]


def row(number, subject, prop, answer):
    """A row as PopQA has it: every column, `possible_answers` a list written as a string."""
    values = dict.fromkeys(COLUMNS, "[]")
    values |= {"id": number, "subj": subject, "prop": prop, "obj": answer, "s_pop": 7, "o_pop": 9}
    return values | {"question": f"What of {subject}?", "possible_answers": f'["{answer}", "the ""old"" one"]'}


ROWS = [
    *(row(i, f"Erika Öst {i}", "place of birth", TOWNS[i % (3 + i % 10)]) for i in range(60)),
    *(row(100 + i, f"Jo Park {i}", "sport", SPORTS[i % (2 + i % 10)]) for i in range(60)),
    *(row(200 + i, f"A Film {i}", "director", f"Someone {i}") for i in range(9)),
    row(300, "Erika Öst 0", "sport", "a-ball"),
]


def tsv(path, rows=ROWS, columns=COLUMNS):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter="\t", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def file(tmp_path):
    return tsv(tmp_path / "popqa, mine.tsv")


def test_sizes_and_pairs(file):
    pack = open_pack(f"popqa:{file},pairs=4,names=40,bridge=3", 5)
    (rule,) = pack.implications
    assert (rule.given, rule.then, rule.kind, len(rule.map), len(set(rule.map.values()))) == (
        *("born_in", "plays", "spurious"),
        *(4, 4),
    )
    assert len(pack.subjects) == 40 and len(pack.facts) == 40 + 4 * 3 and len(pack.questions) == 40 - 4 * 3
    assert Counter(fact.answer for fact in pack.facts if fact.relation == "born_in") == dict.fromkeys(rule.map, 10)
    assert all(question.expected == rule.map[question.given_answer] for question in pack.questions)
    assert all(len(answers) == 10 for answers in pack.candidates.values())
    assert not check_structure(pack).faults
    people = {each["subj"] for each in ROWS if each["prop"] != "director"}
    assert set(pack.subjects) <= people and "licence" in pack.licence


def test_answers_are_the_most_frequent_and_the_pairs_are_drawn_by_the_seed(file):
    packs = [open_pack(f"popqa:{file},names=100,bridge=4", seed) for seed in range(6)]
    counts = Counter(each["obj"] for each in ROWS if each["prop"] == "place of birth")
    least = min(counts[town] for town in packs[0].implications[0].map)
    assert all(counts[town] <= least for town in counts if town not in packs[0].implications[0].map)
    assert len({tuple(pack.implications[0].map.items()) for pack in packs}) > 1
    assert packs[0] == open_pack(f"popqa:{file},names=100,bridge=4", 0)
    assert packs[0].subjects != packs[1].subjects


def test_parquet_gives_the_same_pack_whatever_else_is_in_it(file, tmp_path):
    columns = {name: [each[name] for each in ROWS] for name in COLUMNS}
    columns["possible_answers"] = [["a", "list"] for _ in ROWS]
    pq.write_table(pa.table(columns), tmp_path / "popqa.parquet")
    options = "pairs=3,names=30,bridge=2"
    ours, theirs = (
        open_pack(f"popqa:{file},{options}", 1),
        open_pack(f"popqa:{tmp_path / 'popqa.parquet'},{options}", 1),
    )
    assert ours.facts == theirs.facts and ours.implications == theirs.implications


def test_the_paper_s_size_is_the_default(tmp_path):
    rows = [row(i, f"Person {i}", "place of birth", TOWNS[i % 12]) for i in range(520)]
    pack = open_pack(f"popqa:{tsv(tmp_path / 'all.tsv', [*rows, *ROWS])}")
    assert len(pack.subjects) == 500 and len(pack.implications[0].map) == 5
    assert len(pack.facts) == 500 + 5 * 20


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("pairs=1", "pairs=1 cannot be paired at random. Use pairs=2 or more."),
        ("pairs=3,names=31", "names=31 cannot be shared out evenly over 3 pairs among the 120 people of the file."),
        ("pairs=2,names=500", "over 2 pairs among the 120 people of the file. Use names=120."),
        ("pairs=2,names=20,bridge=11", "bridge=11 is not between 0 and the 10 names a pair has. Use bridge=10."),
        ("pairs=30,names=60", "answers to 'place of birth' are too few for pairs=30."),
        ("pair=3", "a built-in pack has no option 'pair'. Did you mean 'pairs'?"),
        ("null", "popqa has no option 'null'."),
    ],
)
def test_sizes_that_cannot_be_are_told(file, options, sentence):
    with pytest.raises(UsageError) as caught:
        open_pack(f"popqa:{file},{options}")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("verb", ["check", "packs show"])
def test_a_file_that_is_not_popqa_is_one_sentence(verb, tmp_path, capsys):
    other = tsv(tmp_path / "other.tsv", columns=[name for name in COLUMNS if name not in ("prop", "obj")])
    noise = tmp_path / "noise.parquet"
    noise.write_bytes(b"PAR1 nothing")
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("subj\tprop\tobj\nÖst\tsport\tx\n".encode("latin-1"))
    cases = {
        f"popqa:{other}": "this is not PopQA: it has no column 'prop', 'obj'. Give a TSV or Parquet file",
        f"popqa:{noise}": "this file cannot be read as a TSV or Parquet file",
        f"popqa:{latin}": "this file cannot be read as a TSV or Parquet file",
        f"popqa:{tmp_path / 'gone.tsv'}": "there is no such file",
        "popqa": "popqa needs your copy of the file. Write popqa:PATH",
    }
    for spec, sentence in cases.items():
        assert main([*verb.split(), spec]) == 2
        out, err = capsys.readouterr()
        assert sentence in err and err.count("\n") == 1 and not out


def test_the_licence_question_is_told(file, capsys):
    assert main(["packs", "show", f"popqa:{file},pairs=2,names=20,bridge=2"]) == 0
    shown = capsys.readouterr().out
    assert "licence of the user's copy of PopQA is for the user to look up" in shown
