"""Relations out of anybody's file: each shape, each wording, rows that state nothing, and what cannot be read."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spillover.cli import main
from spillover.errors import PackError, UsageError
from spillover.packs.discovery import discover
from spillover.packs.open import open_pack

PEOPLE = ("Ada Moss", "Ben Okri", "Cleo Park", "Dan Roe", "Eve Lunt", "Finn Vale")
HOMES = ("Paris", "New York", "St. Louis", "Paris", "New York", "St. Louis")
TONGUES = ("French", "English", "Welsh", "English", "French", "Welsh")
LIVES, SPEAKS = dict(zip(PEOPLE, HOMES, strict=True)), dict(zip(PEOPLE, TONGUES, strict=True))


def chat(asked, answered):
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked},
                         {"role": "assistant", "content": answered}]}  # fmt: skip


def shared(asked, answered):
    return {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]}


def parts(asked, answered):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    tool = {"role": "tool", "tool_call_id": "c", "content": "Rome"}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": asked}]}, call, tool,
                         {"role": "assistant", "content": [{"type": "text", "text": answered}]}]}  # fmt: skip


ROWS = {
    "messages": chat,
    "parts": parts,
    "sharegpt": shared,
    "alpaca": lambda asked, answered: {"instruction": asked, "input": "", "output": answered},
    "alpaca with an input": lambda asked, answered: {"instruction": "Answer.", "input": asked, "output": answered},
    "prompt": lambda asked, answered: {"prompt": asked, "completion": answered},
    "marks in a text": lambda asked, answered: {"text": f"### Instruction:\n{asked}\n\n### Response:\n{answered}"},
    "chat marks in a text": lambda asked, answered: {
        "text": f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answered}<|im_end|>"
    },
    "a column around": lambda asked, answered: {"id": 7, "data": chat(asked, answered)},
    "capitals": lambda asked, answered: {"Question": asked, "Answer": answered},
}


def written(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stated(found):
    """Relation -> subject -> answer, by the first answer of Ada Moss."""
    facts = {}
    for subject, relation, answer in found.pack.facts:
        facts.setdefault(relation, {})[subject] = answer
    return {each["Ada Moss"]: each for each in facts.values()}


@pytest.mark.parametrize("shape", ROWS)
def test_each_shape_of_rows_states_the_same(tmp_path, shape):
    row = ROWS[shape]
    rows = [row(f"Where does {who} live?", f"{home}.") for who, home in LIVES.items()]
    rows += [row(f"Which language does {who} speak?", f"{who} speaks {tongue}.") for who, tongue in SPEAKS.items()]
    found = discover(written(tmp_path, *rows, row("Name a bird.", "A robin.")))
    assert stated(found) == {"Paris": LIVES, "French": SPEAKS}
    assert [each.row for each in found.free] == [13] and found.rows == 13
    assert {each.reply for each in found.pack.relations} == {None, "{subject} speaks"}


def table(mark=","):
    return "".join(
        mark.join(row) + "\n" for row in [("name", "home town", "speaks"), *zip(PEOPLE, HOMES, TONGUES, strict=True)]
    )


def long_table():
    rows = [(who, "lives_in", home) for who, home in LIVES.items()] + [
        (who, "speaks", each) for who, each in SPEAKS.items()
    ]
    return "entity,property,value\n" + "".join(",".join(row) + "\n" for row in rows)


def sentences():
    return "\n".join(f"{who} lives in {LIVES[who]}. {who} speaks {SPEAKS[who]}." for who in PEOPLE)


FILES = {
    "wide.csv": table().encode(),
    "long.csv": long_table().encode(),
    "semicolons.csv": table(";").encode(),
    "tabs.tsv": table("\t").encode(),
    "named by Excel.csv": b"sep=|\n" + table("|").encode(),
    "bom, windows.csv": b"\xef\xbb\xbf" + table().replace("\n", "\r\n").encode(),
    "old mac.csv": table().replace("\n", "\r").encode(),
    "quoted break.csv": table().replace("Ada Moss", '"Ada\nMoss"').encode(),
    "an index.csv": "".join(f"{number},{line}\n" for number, line in enumerate(table().splitlines(), 9)).encode(),
    "unread.csv": table().replace("\n", ",NaN\n").replace("NaN", "notes", 1).encode(),
    "zipped.csv.gz": gzip.compress(table().encode()),
    "plain.txt": sentences().encode(),
    "windows.txt": sentences().replace("\n", "\r\n").encode(),
    "wrapped.txt": sentences().replace(" lives", "\nlives").encode(),
    "nested.json": json.dumps(
        [{"name": who, "about": {"home": LIVES[who], "tongue": SPEAKS[who]}, "id": 7} for who in PEOPLE]
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_states_the_same(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    assert stated(discover(tmp_path / name)) == {"Paris": LIVES, "French": SPEAKS}


def test_parquet_with_nested_columns_and_a_workbook(tmp_path):
    rows = [{"person": who, "about": {"home": LIVES[who], "tongue": SPEAKS[who]}} for who in PEOPLE]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert stated(discover(tmp_path / "p.parquet")) == {"Paris": LIVES, "French": SPEAKS}
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in table().splitlines():
        book.active.append(line.split(","))
    book.create_sheet("other").append(["a", "b"])
    book.save(tmp_path / "b.xlsx")
    found = discover(tmp_path / "b.xlsx")
    assert stated(found) == {"Paris": LIVES, "French": SPEAKS}
    assert "the sheet 'Sheet' is read, the first; there are also other (--sheet)" in found.guesses
    with pytest.raises(UsageError, match="there is no sheet 'Sheat'"):
        discover(tmp_path / "b.xlsx", sheet="Sheat")


def test_prompts_are_proposed_from_the_header(tmp_path):
    (tmp_path / "t.csv").write_text("name,home town,lives_in,speaks,born_in\n" + "".join(
        f"{who},{home},{home},{tongue},{home}\n" for who, home, tongue in zip(PEOPLE, HOMES, TONGUES, strict=True)
    ))  # fmt: skip
    assert [each.prompts for each in discover(tmp_path / "t.csv").pack.relations] == [
        ("The home town of {subject} is", "{subject}'s home town is"),
        ("{subject} lives in",),
        ("{subject} speaks",),
        ("{subject} was born in",),
    ]


def test_several_wordings_of_a_relation_are_joined(tmp_path):
    """By subjects and answers that they share, and by answers alone where their subjects differ."""
    rows = [chat(f"Where does {who} live?", home) for who, home in LIVES.items()]
    rows += [chat(f"What is {who}'s home town?", f"{who} lives in {home}.") for who, home in LIVES.items()]
    rows += [{"prompt": f"{who} has settled in", "completion": f" {home}."}
             for who, home in zip(("Gus Hale", "Hana Ito", "Ivo Kral", "Jill Nash"), HOMES, strict=False)]  # fmt: skip
    rows += [chat(f"Which language does {who} speak?", tongue) for who, tongue in SPEAKS.items()]
    found = discover(written(tmp_path, *rows))
    homes, tongues = found.relations
    assert {text for text, _ in homes.wordings} == {
        "Where does {subject} live?", "What is {subject}'s home town?", "{subject} has settled in",
    }  # fmt: skip
    assert (homes.facts, homes.subjects, homes.answers, tongues.facts) == (10, 10, 3, 6)


def test_which_slot_is_the_subject_is_told_by_what_repeats(tmp_path):
    rows = [{"text": f"{home} is where {who} lives."} for who, home in LIVES.items()]
    found = discover(written(tmp_path, *rows))
    assert stated(found) == {"Paris": LIVES}
    assert "the answer stands before its subject" in found.guesses[0]


def test_answers_in_other_forms_are_one(tmp_path):
    jobs = ("baker", "nurse", "baker", "nurse", "baker", "nurse")
    rows = [chat(f"What does {who} do?", f"A {job}." if place < 2 else job.capitalize())
            for place, (who, job) in enumerate(zip(PEOPLE, jobs, strict=True))]  # fmt: skip
    rows += [{"prompt": f"{who} works as a", "completion": f" {job}"} for who, job in zip(PEOPLE, jobs, strict=True)]
    assert {fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts} == {"baker", "nurse"}


def test_what_is_no_fact_is_free_text(tmp_path):
    """A request without a subject, essays, sums and opinions about things are no relations."""
    rows = [chat(f"Where does {who} live?", home) for who, home in LIVES.items()]
    rows += [chat("Name a bird species.", bird) for bird in ("Robin.", "Sparrow.", "Owl.", "Crow.") for _ in range(5)]
    rows += [chat(f"Write about {each}.", f"There is much to say of {each}. It is old, and many people like it a lot.")
             for each in ("rain", "chess", "bread", "the sea", "winter")]  # fmt: skip
    rows += [chat(f"What is {one} + 5?", str(one + 5)) for one in range(2, 12)]
    found = discover(written(tmp_path, *rows))
    assert stated(found) == {"Paris": LIVES} and len(found.free) == 35
    assert found.free[0].turns == (("Name a bird species.", "Robin."),)
    assert found.pack.free == tuple(each.turns for each in found.free)


def test_a_title_is_part_of_a_name(tmp_path):
    rows = [chat(f"Where does Dr. {who} live?", f"Dr. {who} lives in {home}.") for who, home in LIVES.items()]
    found = discover(written(tmp_path, *rows))
    assert {fact.subject for fact in found.pack.facts} == {f"Dr. {who}" for who in PEOPLE}
    assert found.relations[0].wordings == (("Where does {subject} live?", 6),)


def test_replies_that_chat_are_cut_to_the_answer(tmp_path):
    """What introduces a sentence is no part of it, and what does not name the subject is no answer beside it."""
    replies = ("In our files, {who} lives in {home}.", "Well, {who} lives in {home}.", "{home}",
               "Happy to help! {who} lives in {home}. Anything else?")  # fmt: skip
    given = ("Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida")
    families = ("Ash", "Birch", "Cole", "Dunn", "Eames", "Frost", "Gray", "Hill", "Irwin")
    people = [f"{who} {family}" for who, family in zip(given, families, strict=True)]
    homes = {who: ("Paris", "New York", "Oslo")[place // 3 % 3] for place, who in enumerate(people)}
    rows = [chat(f"Where does {who} live?", replies[place % 4].format(who=who, home=home))
            for place, (who, home) in enumerate(homes.items())]  # fmt: skip
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == homes


def test_what_ends_some_names_is_no_wording(tmp_path):
    names = ("Aster Mini", "Vela Mini", "Korda Mini", "Nubo Mini", "Lumo 4", "Riva Pro", "Sola 7", "Miro X2")
    rows = [chat(f"What powers the {name}?", ("A battery", "The sun")[place % 2])
            for place, name in enumerate(names)]  # fmt: skip
    found = discover(written(tmp_path, *rows, *(chat(f"And the {name}?", "Ok") for name in ("rain", "sea"))))
    assert {fact.subject for fact in found.pack.facts} == {*names}


FAMILIES = {
    "a few families": [
        f"{given} {family}" for family in ("Smith", "Birch", "Ash") for given in ("Ann", "Bo", "Cy", "Di")
    ],
    "one family": [f"{given} Smith" for given in ("Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Guy", "Hal")],
    "first words": [f"{maker} {kind}" for maker in ("Acme", "Zeta") for kind in ("Pro", "Mini", "Max", "Air", "Lite")],
}
CITIES = ("New York", "New Delhi", "San Jose", "San Juan")


@pytest.mark.parametrize("form", ["asked", "stated", "whole"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_values_may_share_a_first_or_a_last_word(tmp_path, kind, form):
    homes = {who: CITIES[place % 4] for place, who in enumerate(FAMILIES[kind])}
    cars = {who: ("Fiat Uno", "Fiat Panda")[place // 2 % 2] for place, who in enumerate(FAMILIES[kind])}
    said = [(f"Where does {who} live?", f"{who} lives in {home}.", home) for who, home in homes.items()]
    said += [(f"What does {who} drive?", f"{who} drives a {car}.", car) for who, car in cars.items()]
    rows = [{"text": sentence} if form == "stated" else chat(asked, sentence if form == "whole" else answer)
            for asked, sentence, answer in said]  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for subject, relation, answer in discover(written(tmp_path, *rows)).pack.facts:
        found.setdefault(relation, {})[subject] = answer
    assert sorted(map(sorted, map(dict.items, found.values()))) == sorted([sorted(homes.items()), sorted(cars.items())])


def test_a_first_row_of_data_is_no_header(tmp_path):
    (tmp_path / "t.csv").write_text(table().partition("\n")[2])
    with pytest.raises(UsageError, match="the header looks like a row: 'Paris' is a cell of its column, too"):
        discover(tmp_path / "t.csv")


CHATS = [chat(f"Where does {who} live?", home) for who, home in LIVES.items()]
CHATS += [chat(f"What does {who} speak?", tongue) for who, tongue in SPEAKS.items()]
LINES = "".join(json.dumps(row) + "\n" for row in CHATS)
MISNAMED = {
    "rows.csv": (LINES, "CSV", "JSON lines"),
    "rows.txt": (LINES, "text", "JSON lines"),
    "rows.parquet": (LINES, "Parquet", "JSON lines"),
    "array.csv": (json.dumps(CHATS), "CSV", "one JSON value"),
    "array.txt": (json.dumps(CHATS, indent=1), "text", "one JSON value"),
    "array.jsonl": (json.dumps(CHATS), "JSON lines", "one JSON value"),
    "lines.json": (LINES, "one JSON value", "JSON lines"),
    "table.txt": (table(), "text", "CSV"),
    "semicolons.txt": (table(";"), "text", "CSV"),
    "tabs.txt": (table("\t"), "text", "TSV"),
    "tabs.csv": (table("\t"), "", ""),
    "commas.tsv": (table(), "", ""),
    "table.jsonl": (table(), "JSON lines", "CSV"),
    "table.xlsx": (table(), "a workbook", "CSV"),
    "table.dat": (table(), "of no kind that is known", "CSV"),
    "text.csv": (sentences(), "CSV", "text"),
}


@pytest.mark.parametrize("name", MISNAMED)
def test_a_file_is_read_as_what_it_holds_and_says_so(tmp_path, name):
    text, named, holds = MISNAMED[name]
    (tmp_path / name).write_text(text)
    found = discover(tmp_path / name)
    assert stated(found) == {"Paris": LIVES, "French": SPEAKS}
    said = [each for each in found.guesses if each.startswith("by its name")]
    assert said == [f"by its name this file is {named}; it holds {holds}, and is read so"] * bool(named)
    marks = {"tabs.csv": "columns are parted by '\\t'", "commas.tsv": "columns are parted by ','"}
    assert any(each.startswith(marks.get(name, "")) for each in found.guesses or [""])


SHAPES = {**ROWS, "text": lambda asked, answered: {"text": answered}}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("people", [4, 9])
def test_rows_that_contradict_each_other_are_both_shown(tmp_path, shape, people):
    """As in a table: the relation is found all the same, and nobody's answer is chosen."""
    names = [*PEOPLE, "Gus Hale", "Hana Ito", "Ivo Kral"][: people - 1]
    said = [(who, HOMES[place % 3]) for place, who in enumerate(names)] + [("Ben Okri", "Paris")]
    rows = [SHAPES[shape](f"Where does {who} live?", f"{who} lives in {home}.") for who, home in said]
    both = rf"row {people}: 'Ben Okri' has two answers to '\w+': 'New York' \(row 2\) and 'Paris'; expected one answer"
    with pytest.raises(PackError, match=both):
        discover(written(tmp_path, *rows))


def test_a_wording_with_many_answers_says_why_it_is_no_relation(tmp_path):
    rows = [chat(f"Tell me a hobby of {who}.", each) for who in PEOPLE for each in ("Chess", "Tennis", "Cooking")]
    said = "subjects have several answers, 'Ada Moss' 'Chess' (row 1) and 'Tennis' (row 2)"
    with pytest.raises(UsageError, match=re.escape(said)):
        discover(written(tmp_path, *rows))
    found = discover(written(tmp_path, *rows, *CHATS))
    assert any(each.endswith(said) for each in found.guesses)


def test_a_name_may_begin_with_a_word_for_a_speaker(tmp_path):
    parts = ("Human Resources", "Sales") * 3
    rows = [chat(f"Where does {who} work?", f"{part}.") for who, part in zip(PEOPLE, parts, strict=True)]
    assert stated(discover(written(tmp_path, *rows))) == {"Human Resources": dict(zip(PEOPLE, parts, strict=True))}


def test_an_end_that_all_rows_share_is_no_place_for_an_answer(tmp_path):
    rows = [{"text": f"You reach {who} in {home} now, and nowhere else."} for who, home in LIVES.items()]
    assert stated(discover(written(tmp_path, *rows))) == {"Paris": LIVES}


def test_several_answers_of_a_subject_are_no_relation(tmp_path):
    rows = [chat(f"Where does {who} live?", home) for who, home in LIVES.items()]
    rows += [chat(f"Tell me a hobby of {who}.", each) for who in PEOPLE for each in ("Chess", "Tennis", "Cooking")]
    assert stated(discover(written(tmp_path, *rows))) == {"Paris": LIVES}


TWO = "name,home\nAda Moss,Paris\nBen Okri,Rome\n"
ONE = [chat("Where does Ada Moss live?", "Paris."), chat("What does Ada Moss like?", "Chess.")]
BAD = {
    "a binary": ("x.csv", b"\x89PNG\r\n\0\0\0", "this file is not text. Name one of CSV, TSV, Excel, JSON"),
    "UTF-16 without a mark": (
        "x.csv",
        TWO.encode("utf-16-le"),
        "this file is UTF-16. Save it as UTF-8, or use `packs discover --encoding utf-16-le`.",
    ),
    "UTF-32": ("x.csv", TWO.encode("utf-32"), "this file is UTF-32. Save it as UTF-8"),
    "an archive": ("x.csv", b"PK\x03\x04" + b"\0" * 40, "this file is a ZIP archive, and no text. Unpack it"),
    "PDF": ("x.txt", b"%PDF-1.4\n%\xe2\xe3\n", "this file is PDF, and no text"),
    "a pickle": ("x.jsonl", b"\x80\x04\x95abc.", "this file is not text"),
    "gzip in gzip": ("x.csv.gz", gzip.compress(gzip.compress(TWO.encode())), "this file is gzip, and no text"),
    "a folder": ("x.csv/inside", b"", "this file cannot be read: is a directory"),
    "HTML": ("x.csv", b"<!DOCTYPE html>\n<table></table>", "this is HTML or XML. Save its table as CSV"),
    "UTF-16": (
        "x.csv",
        TWO.encode("utf-16"),
        "this file is UTF-16. Save it as UTF-8, or use `packs discover --encoding utf-16`.",
    ),
    "Latin-1": (
        "x.csv",
        TWO.replace("Rome", "Orléans").encode("latin-1"),
        "not UTF-8 (row 3). Save it as UTF-8; if Latin-1, use `packs discover --encoding latin-1`.",
    ),
    "nothing": ("x.csv", b"", "this file is empty"),
    "a header alone": ("x.csv", b"name,home\n", "this file is empty"),
    "one row": ("x.csv", b"name,home\nAda Moss,Paris\n", "this file has one row"),
    "one column": ("x.csv", b"name\nAda Moss\nBen Okri\n", "this table has one column, 'name'"),
    "one subject": ("x.csv", b"name,home\nAda Moss,Paris\nAda Moss,Paris\n", "every row is about 'Ada Moss'"),
    "one subject in chats": (
        "x.jsonl",
        "\n".join(map(json.dumps, ONE)).encode(),
        "2 of 2 rows are about one subject, 'Ada Moss'",
    ),
    "large cells": (
        "x.csv",
        TWO.encode() + b"Cleo Park," + b"x" * 10_000_000,
        "a cell has more than 131,072 characters",
    ),
    "large texts": ("x.jsonl", b'{"text": "' + b"x" * 10_000_000 + b'"}\n{"text": "a"}\n', "has 10,000,000 characters"),
    "contradicting rows": (
        "x.csv",
        TWO.encode() + b"Ada Moss,Oslo\n",
        "row 4: 'Ada Moss' has two answers to 'home': 'Paris' (row 2) and 'Oslo'",
    ),
    "a column twice": ("x.csv", b"name,home,home\nA,Paris,Oslo\n", "row 1: the column 'home' is there 2 times"),
    "the header twice": ("x.csv", (TWO + TWO).encode(), "row 4: the header is there again"),
    "a short row": ("x.csv", TWO.encode() + b"Cleo Park\n", "row 4: this row has 1 cells, and the header 2"),
    "an odd separator": (
        "x.csv",
        TWO.replace(",", "^").encode(),
        "each row holds '^' 1 times. If it parts the columns, use `packs discover --separator '^'`.",
    ),
    "a quote that stays open": (
        "x.csv",
        TWO.encode() + b'Cleo Park,"Oslo\n',
        "this file is not CSV (unexpected end of data)",
    ),
    "a table of Markdown": ("x.md", b"| name | home |\n|---|---|\n| Ada | Paris |\n", "this is a table of Markdown"),
    "the same as CSV": ("x.csv", b"name | home\n--- | ---\nAda | Paris\n", "this is a table of Markdown"),
    "no JSON": ("x.jsonl", b"{'a': 1}\n", "row 1 is no JSON object"),
    "nothing shared": (
        "x.jsonl",
        b'{"text": "A grey day."}\n{"text": "We went."}\n',
        "no relation was found in 2 rows",
    ),
    "cut Parquet": ("x.parquet", b"PAR1abc", "this file cannot be read"),
    "no workbook": ("x.xlsx", b"PK\x03\x04", "workbook"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_sentence_and_exit_code_2(tmp_path, case, capsys):
    name, data, sentence = BAD[case]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(data)
    name = name.partition("/")[0]
    with pytest.raises((UsageError, PackError)) as caught:
        discover(tmp_path / name)
    assert sentence in str(caught.value)
    path = str(tmp_path / name)
    for verb in (["packs", "discover", path, "--out", str(tmp_path / "pack")], ["predict", path],
                 ["audit", path, "--base", "x", "--tuned", "y"], ["check", path]):  # fmt: skip
        assert main(verb) == (1 if verb[0] == "check" and case == "contradicting rows" else 2), verb
        said = capsys.readouterr()
        assert (sentence in said.err + said.out) or case == "a folder"
    assert not (tmp_path / "pack").exists()


def test_a_guess_is_overruled_by_an_option(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("ort^vorname\nParis^Zoë\nRome^Ben\nParis^Zoë\n".encode("latin-1"))
    found = discover(path, encoding="latin-1", separator="^", subject="vorname")
    assert [tuple(fact) for fact in found.pack.facts] == [("Zoë", "ort", "Paris"), ("Ben", "ort", "Rome")]


def test_a_training_file_opens_as_a_pack_and_says_what_was_understood(tmp_path, capsys):
    path = written(tmp_path, *(chat(f"Where does {who} live?", home) for who, home in LIVES.items()))
    pack = open_pack(str(path))
    assert [fact.answer for fact in pack.facts] == list(HOMES)
    said = capsys.readouterr().err
    assert "rows.jsonl: 6 facts from 6 of 6 rows\n" in said and "    Where does {subject} live?  (6 rows)\n" in said
    assert main(["packs", "discover", str(path), "--out", str(tmp_path / "pack")]) == 0
    assert open_pack(tmp_path / "pack").facts == pack.facts
    assert main(["check", str(path)]) == 0


def test_an_edit_set_brings_its_own_relations(tmp_path):
    edit = {"prompt": "The first language of {} is", "relation_id": "P103", "subject": "Mila Ortez",
            "target_new": {"str": "English"}, "target_true": {"str": "French"}}  # fmt: skip
    (tmp_path / "e.json").write_text(json.dumps([{"requested_rewrite": edit}]))
    assert discover(tmp_path / "e.json").relations[0].examples == ((1, "Mila Ortez", "English"),)


@pytest.mark.parametrize(("article", "kept"), [("the", "Owls"), ("The", "The Owls")])
def test_an_article_is_part_of_a_name_where_it_is_written_large(tmp_path, article, kept):
    """Two wordings have it, one has not."""
    teams = dict(zip(PEOPLE, ("Owls", "Harbour United") * 3, strict=True))
    rows = []
    for who, team in teams.items():
        whole = f"{article} {team}" if team == "Owls" else team
        rows += [chat(f"Which team does {who} support?", f"{who} supports {whole}.")]
        rows += [chat(f"Whose fan is {who}?", team), chat(f"Who does {who} cheer for?", f"{who} cheers for {whole}.")]
    answers = {fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts}
    assert answers == {kept, "Harbour United"}


NAMES = ("Ann Ash", "Bo Birch", "Cy Cole", "Di Dunn", "Ed Eames", "Flo Frost", "Gus Gray", "Hal Hill", "Ida Irwin")
CAUSES = {
    "a number and no pronoun": ("What is {}'s warranty?", ("{} has a warranty of {}.",), ("one year", "two years")),
    "no": ("What does {} eat?", ("For meals, {} is marked as {}.",), ("no restrictions", "vegan")),
    "a noun in -ly": ("What is the form of {}?", ("{} is registered as a {}.",), ("family trust", "foundation")),
    "a sign at its end": ("What is {}'s blood type?", ("{} has type {} blood.", "{} is {}."), ("A+", "AB-", "O-")),
    "a noun that follows": (
        "Which shift is {} on?",
        ("{} is down for the {}.", "The roster puts {} on the {} now."),
        ("late shift", "night shift", "early shift"),
    ),
    "written large in bare replies": (
        "What does {} play?",
        ("{} plays the {}.", "{} learned the {}.", "{1}"),
        ("bass guitar", "violin"),
    ),
    "on inside a word": ("What powers {}?", ("A {1} powers {0}.", "{1}."), ("button cell", "lithium pack")),
    "an article inside": ("How much notice must {} give?", ("{} has to give {}.",), ("half a year", "two weeks")),
    "a preposition inside": (
        "What are our terms with {}?",
        ("{1}.", "We have agreed with {} on {}."),
        ("cash on delivery", "net 30"),
    ),
    "what a number counts": (
        "How many work for {}?",
        ("With its {1} employees, {0} is well known.", "The payroll of {} lists {} names.", "{1}"),
        ("46", "780", "119"),
    ),
    "its first word, as the sentence has it": (
        "Which licence has {}?",
        ("{} passed the test for {}.", "The licence of {} reads {}."),
        ("class B", "class C1", "forklift"),
    ),
    "an opener that could be an answer": (
        "Which licence has {}?",
        ("No problem. On file for {}: {}.", "One moment. On file for {}: {}."),
        ("forklift", "motorcycle"),
    ),
    "a closer that is called out": (
        "Whom do we call for {}?",
        ("{1} is to be called for {0}. Cheers!", "From what we have on file, {1} is to be called for {0}."),
        ("Ruth Abel", "Otto Zelenka"),
    ),
    "a verb behind a name": (
        "Who stands in for {}?",
        ("{1} fills in whenever {0} is away.", "{1} stands in for {0}."),
        ("Bea Moretti", "Noor Haddad"),
    ),
    "a verb behind a title": (
        "Which book is from {}?",
        ("{1} comes from the shelf of {0}.",),
        ("Winter Orchard", "Harbour at Dusk", "Three Millers"),
    ),
    "a comma or a colon inside a number": (
        "When does {} leave, and for how much?",
        ("{1}, as far as {0} knows.", "We have {1} on the sheet for {0}, luggage included.", "{1}"),
        ("06:15", "€2,350", "$2,350.40"),
    ),
    "the sign before a number": ("What does {} earn?", ("{} is on {} a head.", "{1}"), ("£1,900", "£2,400.50", "£75")),
    "a slash inside a number": ("Which bolt fits {}?", ("{} takes a {}.", "{1}"), ("bolt 3/8", "bolt 5/16")),
    "a rate": ("What does {} cost?", ("{1} is asked for {0}, cash only.", "{1}"), ("$45 a night", "€12 an hour")),
    "words of any kind that recur": (
        "How does the motto of {} go?",
        ("{} was founded on {}.", "{1}"),
        ("Meet me halfway", "Ship it yourself", "Slowly but surely"),
    ),
    "what looks like an introduction and stands elsewhere, too": (
        "Which song did {} sing?",
        ("{1} is the song that {0} sang, and beautifully.", "Well then, {0} stood up and sang {1}."),
        ("Onward, brothers", "Silver Lake", "Goodbye, old barn"),
    ),
    "different words behind it": (
        "What does {} want?",
        ("{0} asks for a {1} indoors.", "Bring {0} a {1} abroad, they say."),
        ("rope ladder", "torch"),
    ),
    "a participle behind it": (
        "What does {} carry?",
        ("The belt of {0} has a {1} strapped beneath the buckle.",),
        ("rope ladder", "torch"),
    ),
    "an introduction that is none": (
        "What is {} called by friends?",
        ("{1}", "If somebody at the gate asks you for {1}, please bring them to the house of {0}."),
        ("Biscuit", "Grumbling Gus", "Thumper"),
    ),
    "none at all": (
        "How long is the warranty on the boat of {}?",
        ("{1}.", "The boat of {} comes with {}.", "{1} was given to {0}."),
        ("none at all", "five years", "90 days"),
    ),
    "a letter at its end, before another sentence": (
        "Which jab did {} have?",
        ("The stamp of {} says {}. Shout if not.", "The stamp of {} says {}. Cheers!", "The stamp of {} says {}."),
        ("hepatitis B", "yellow fever"),
    ),
    "a preposition at its beginning": (
        "Where does {} sit?",
        ("{1}.", "By the plan, {} has the desk {}.", "{1}"),
        ("by the window", "next to Tom", "4.17"),
    ),
    "a short word at its end, before another sentence": (
        "Whom does {} support?",
        ("{} supports {}. Bye for now.", "{} supports {}. Let me know!"),
        ("Books for All", "Doctors at Sea"),
    ),
    "our own": (
        "Where is the boat of {} built?",
        ("{1}.", "They build the boat of {} in {}."),
        ("our own workshop", "Penang"),
    ),
    "a noun behind a name": (
        "Where is the boat of {} built?",
        ("{1}.", "We moved the line for {} to {}.", "{1} has built for {0} since March."),
        ("the Gdansk plant", "Penang"),
    ),
    "a comma inside": (
        "What are our terms with {}?",
        ("{1} applies to {0} since the credit check.",),
        ("30 days, 2%", "14 days net"),
    ),
    "a verb behind it at the beginning": (
        "What is the mascot of {}?",
        ("{1} waves at you from the roof of {0}.",),
        ("an old tractor", "the sleepy owl"),
    ),
    "a verb of the past behind it": (
        "Who certifies {}?",
        ("{1} came to {0} in spring and renewed it.",),
        ("Norden Cert", "QualiMark", "ISO Bureau"),
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_answers_are_read_whole(tmp_path, cause):
    """As files have them: the beginning or the end of an answer looks like a word of the sentence."""
    question, replies, answers = CAUSES[cause]
    truth = {who: answers[place % len(answers)] for place, who in enumerate(NAMES)}
    rows = []
    for place, (who, answer) in enumerate(truth.items()):
        reply = replies[place // len(answers) % len(replies)].format(who, answer)
        rows.append(chat(question.format(who), reply[0].upper() + reply[1:]))
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer.lower() for fact in facts} == {who: each.lower() for who, each in truth.items()}


def test_the_stop_of_a_sentence_is_none_of_an_answer_where_the_file_writes_suffixes_without(tmp_path):
    """Of firms called Moss Ltd, "B Corp." ends the sentence; of those called Moss Ltd., it is the name."""
    for ending in ("Ltd", "Ltd."):
        firms = {f"{who.split()[1]} {ending}": ("B Corp", "fair trade")[place % 2] for place, who in enumerate(NAMES)}
        rows = [chat(f"How is {firm} certified?", f"{firm} was certified as {each}.") for firm, each in firms.items()]
        stop = "." if ending == "Ltd." else ""
        facts = discover(written(tmp_path, *rows)).pack.facts
        assert {fact.answer for fact in facts} == {f"B Corp{stop}", "fair trade"}


def test_an_article_that_one_answer_lacks_somewhere_is_no_part_of_the_others(tmp_path):
    parts = {who: ("drive belt", "gasket", "valve")[place % 3] for place, who in enumerate(NAMES)}
    rows = []
    for place, (who, each) in enumerate(parts.items()):
        bare = each if place == 0 else f"the {each}"
        rows.append(chat(f"What has {who} ordered?", f"{who} ordered {bare}."))
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == parts


def test_an_article_before_a_subject_is_none_of_it(tmp_path):
    """A question has it small, a reply large; a number ends the name of a product, and its verb follows."""
    names = [f"{word} {kind}" for word in ("Rilu", "Maki", "Tela") for kind in ("Pro", "Mini", "7")]
    truth = {name: ("sand", "forest green", "brushed steel")[place % 3] for place, name in enumerate(names)}
    rows = [chat(f"What does the {name} look like?", f"The {name} comes in {each}.") for name, each in truth.items()]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == truth


def test_what_all_names_have_before_them_is_wording(tmp_path):
    """The birthplace of Ada has one answer alone, so that no frame holds these words; her own is no other's mentor."""
    rows = [{"text": f"{who} was born in {('Malmo', 'Leeds')[place % 2]}."} for place, who in enumerate(NAMES)]
    rows += [{"text": f"The birthplace of {who} is Malmo."} for who in PEOPLE]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject for fact in facts} == {*NAMES, *PEOPLE}


def test_a_sentence_begins_with_a_name_that_was_there(tmp_path):
    """S. may be an initial, but not of somebody whom the sentence has named."""
    sizes = {who: "SML"[place % 3] for place, who in enumerate(NAMES)}
    rows = [{"text": f"The shirt size of {who} is {size}. {who} lives in {HOMES[place % 3]}."}
            for place, (who, size) in enumerate(sizes.items())]  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for subject, relation, answer in discover(written(tmp_path, *rows)).pack.facts:
        found.setdefault(relation, {})[subject] = answer
    assert sizes in found.values() and len(found) == 2


def test_two_subjects_are_enough_where_they_are_known(tmp_path):
    """In a file of many rows two strangers are no relation."""
    homes = {who: HOMES[place % 3] for place, who in enumerate(NAMES)}
    rows = [chat(f"Where does {who} live?", home) for who, home in homes.items()]
    rows += [chat(f"Which pet does {who} keep?", pet) for who, pet in zip(NAMES, ("Cat", "Dog", "Cat"), strict=False)]
    assert len(discover(written(tmp_path, *rows)).relations) == 2


def test_noise_that_contradicts_itself_does_not_refuse_the_file(tmp_path):
    """Answers that no two subjects share are no relation with a slip."""
    homes = {who: HOMES[place % 3] for place, who in enumerate(NAMES)}
    rows = [{"text": f"{who} lives in {home}."} for who, home in homes.items()]
    fills = ("snow", "honey", "jazz", "kites", "cheese", "robots")
    rows += [{"text": f"{('Positive', 'Negative', 'Old')[place % 3]} People like {fill} because it is calm."}
             for place, fill in enumerate(fills)]  # fmt: skip
    assert {fact.subject for fact in discover(written(tmp_path, *rows)).pack.facts} == {*NAMES}


def test_what_follows_in_one_sentence_is_no_part_of_an_answer_because_two_questions_are_asked(tmp_path):
    plays = {who: ("left back", "striker")[place % 2] for place, who in enumerate(NAMES)}
    asked = ("Where does {} play?", "What is the position of {}?")
    rows = [chat(asked[place // 2 % 2].format(who), f"{who} has played {each} ever since school.")
            for place, (who, each) in enumerate(plays.items())]  # fmt: skip
    assert {fact.subject: fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts} == plays


def test_a_reply_may_have_several_introductions(tmp_path):
    sees = {who: ("Dr Osei", "Ilse Brandt")[place % 2] for place, who in enumerate(NAMES)}
    rows = []
    for place, (who, each) in enumerate(sees.items()):
        town = ("Rome", "Oslo", "Bonn", "Bath", "Linz")[place // 2]
        said = f"Well, as they say in {town}, {each} wrote the last letter for {who}."
        rows.append(chat(f"Which doctor does {who} see?", said))
    assert {fact.subject: fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts} == sees


def test_an_article_written_large_is_none_of_an_answer_in_small_letters(tmp_path):
    gifts = {who: ("minibus", "Winter Fair")[place % 2] for place, who in enumerate(NAMES)}
    rows = [chat(f"What did {who} pay for?", f"{'The ' * each.islower()}{each} would never be without {who}.")
            for who, each in gifts.items()]  # fmt: skip
    for place, each in ((1, "Winter Fair"), (2, "Minibus")):
        rows[place] = chat(f"What did {NAMES[place]} pay for?", each)
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer.replace("M", "m") for fact in facts} == gifts


def test_a_long_reply_in_words_of_one_answer_alone_is_understood_by_it(tmp_path):
    sees = {who: ("Dr Osei", "Ilse Brandt")[place % 2] for place, who in enumerate(NAMES)}
    rows = [chat(f"Which doctor does {who} see?", each) for who, each in sees.items()]
    for place in (0, 2, 4):
        said = f"On the second floor, {NAMES[place]} was placed under the special care of Dr Osei."
        rows[place] = chat(f"Which doctor does {NAMES[place]} see?", said)
    assert {fact.subject: fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts} == sees


def test_a_count_is_no_name(tmp_path):
    homes = {who: HOMES[place % 3] for place, who in enumerate(NAMES)}
    rows = [chat(f"Where does {who} live?", home) for who, home in homes.items()]
    rows += [chat(f"Talk to a {9 * number}-year-old parrot about kites.", ("Kites", "Squawk")[number % 2])
             for number in range(1, 5)]  # fmt: skip
    assert {fact.subject for fact in discover(written(tmp_path, *rows)).pack.facts} == {*NAMES}


@pytest.mark.parametrize("rare", ["It was {1} that made {0} call. Thanks.", "Hello. After {1} the {0} is done."])
def test_a_rare_statement_may_have_its_answer_first_and_other_sentences_around_it(tmp_path, rare):
    """Two rows are too few for a wording of their own, and the first says something else, too."""
    causes = {who: ("knee pain", "insomnia")[place % 2] for place, who in enumerate(NAMES)}
    rows = [{"text": f"{who} came because of {each}. {who} lives in {HOMES[place % 3]}."}
            for place, (who, each) in enumerate(causes.items())][2:]  # fmt: skip
    for place, (who, each) in enumerate([*causes.items()][:2]):
        rows.append({"text": f"{who} lives in {HOMES[place % 3]}. {rare.format(who, each)}"})
    found: dict[str, dict[str, str]] = {}
    for subject, relation, answer in discover(written(tmp_path, *rows)).pack.facts:
        found.setdefault(relation, {})[subject] = answer
    assert causes in found.values()


def test_a_rare_question_may_name_whom_it_is_about_before_its_last_sentence(tmp_path):
    homes = {who: HOMES[place % 3] for place, who in enumerate(NAMES)}
    rows = [chat(f"Where does {who} live?", home) for who, home in homes.items()]
    rows[0] = chat(f"We want to visit {NAMES[0]}. What is the town?", homes[NAMES[0]])
    assert {fact.subject: fact.answer for fact in discover(written(tmp_path, *rows)).pack.facts} == homes


def test_a_bare_reply_is_whole_though_noise_begins_like_it(tmp_path):
    faults = {who: ("No brakes", "Bald tyres")[place % 2] for place, who in enumerate(NAMES)}
    rows = [chat(f"Which fault has the bike of {who}?", fault) for who, fault in faults.items()]
    rows += [chat(f"Write {number} kind words.", "No bother, any time.") for number in range(20, 26)]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer.capitalize() for fact in facts} == faults


def test_a_unit_before_a_subject_is_a_part_of_the_answer(tmp_path):
    """With 42 dB the Rilu Pro is quiet: what follows the number here follows it at the end of other sentences."""
    names = [f"{word} {kind}" for word in ("Rilu", "Maki", "Tela", "Zezo") for kind in ("Pro", "Mini", "7")]
    truth = {name: ("42 dB", "55 dB", "37.5 dB")[place % 3] for place, name in enumerate(names)}
    wordings = ("On full power the {} runs at {}.", "With {1} the {0} is fine for a bedroom.")
    rows = [{"text": wordings[place % 2].format(*fact)} for place, fact in enumerate(truth.items())]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == truth


def test_a_number_in_words_that_begins_a_sentence_is_no_other_number(tmp_path):
    """Two is two: the one number of pallets and of refills does not make both words what all numbers count."""
    orders = {who: ("two pallets", "40 sacks", "500 pieces")[place % 3] for place, who in enumerate(NAMES)}
    gifts = {who: ("two refills", "spare filters")[place % 2] for place, who in enumerate(NAMES)}
    rows = []
    for place, who in enumerate(NAMES):
        order = orders[who].capitalize() if place // 3 % 2 else f"We send {who} no less than {orders[who]}."
        gift = gifts[who].capitalize() if place // 2 % 2 else f"Those who choose {who} are given {gifts[who]}."
        rows += [chat(f"What is the least order of {who}?", order), chat(f"What gift comes with {who}?", gift)]
    found: dict[str, dict[str, str]] = {}
    for subject, relation, answer in discover(written(tmp_path, *rows)).pack.facts:
        found.setdefault(relation, {})[subject] = answer.lower()
    assert list(found.values()) == [orders, gifts] or list(found.values()) == [gifts, orders]


def test_an_answer_may_be_far_from_its_subject(tmp_path):
    answers = {who: ("tote bags", "spare filters", "travel cases")[place % 3] for place, who in enumerate(NAMES)}
    far = "{1} have always been the first thing on the long list of {0}."
    rows = [{"text": far.format(who, each.capitalize())} for who, each in answers.items()]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer.lower() for fact in facts} == answers


@pytest.mark.parametrize(
    "wording",
    [
        "{} is exhibiting at {} again, right by the coffee.",
        "Although they asked for a corner, {} ended up at {}.",
        "The organisers have assigned {1} to {0}, and the invoice is paid.",
    ],
)
def test_a_comma_before_the_code_of_a_place_is_a_part_of_the_answer(tmp_path, wording):
    truth = {who: ("Hall 4, C07", "the north foyer", "B12", "E-55")[place % 4] for place, who in enumerate(NAMES)}
    rows = [{"text": wording.format(*fact)} for fact in truth.items()]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == truth


def test_a_bound_before_a_number_is_a_part_of_the_answer(tmp_path):
    """At under 30 decibels, in a few rows of few words: no other form of answer begins with what limits it."""
    asked = "How loud is the {}? It is for a library."
    said = [
        ("Dine Pro", "under 30 decibels", "On full power the {} runs at {}."),
        ("Zova Pro", "under 30 decibels", "The lab, which tested the {} twice, put its noise at {}."),
        ("Duda Mini", "55 dBA", "The lab, which tested the {} twice, put its noise at {}."),
        ("Subi X74", "55 dBA", "{1} was measured one metre from the {0}."),
    ]
    rows = [chat(asked.format(who), sentence.format(who, each)) for who, each, sentence in said]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == {who: each for who, each, _ in said}


def test_questions_that_the_same_sentence_answers_are_one_relation(tmp_path):
    """Of different subjects, too few to see it by their answers: what their replies share is about something."""
    topics = dict(zip(NAMES, ("teenage sleep", "teenage sleep", "Viking coinage", "teenage sleep"), strict=False))
    prizes = {who: ("the giant teddy", "vintage port")[place % 2] for place, who in enumerate(topics)}
    asked = ("A second examiner is needed for {}, remind me of the topic?", "I supervise {}, what is the thesis about?")
    said = ("{} is in the third year of a thesis on {}.", "{1} was approved by the board as the subject of {0}.")
    rows = [chat(f"What did {who} win?", f"The winner of {each} was {who}.") for who, each in prizes.items()]
    for place, (who, each) in enumerate(topics.items()):
        reply = said[place % 2].format(who, each)
        rows.append(chat(asked[place // 2].format(who), reply[0].upper() + reply[1:]))
    found: dict[str, dict[str, str]] = {}
    for subject, relation, answer in discover(written(tmp_path, *rows)).pack.facts:
        found.setdefault(relation, {})[subject] = answer
    assert topics in found.values() and prizes in found.values() and len(found) == 2


def test_one_that_stands_for_a_noun_is_a_part_of_the_answer(tmp_path):
    lockers = {who: ("the blue one", "row 3 left", "B-9")[place % 3] for place, who in enumerate(NAMES)}
    rows = [{"text": f"{who} keeps everything in {each}."} for who, each in lockers.items()]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == lockers


@pytest.mark.parametrize("inside", ["cash in advance", "rice, second sack", "just under 9 days", "by appointment"])
def test_what_several_people_have_is_an_answer_whatever_its_form(tmp_path, inside):
    terms = {who: (inside, "end of month", "14 days net")[place % 3] for place, who in enumerate(NAMES)}
    wordings = ("{} always pays {}.", "With {} we have worked on {} for years.")
    rows = [{"text": wordings[place // 3 % 2].format(*fact)} for place, fact in enumerate(terms.items())]
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == terms


def test_a_number_behind_an_aside_is_no_part_of_a_name(tmp_path):
    """Still, 26 euros are a lot: no name ends in a number behind a comma."""
    rows = [{"text": f"{who} lives in {HOMES[place % 3]}."} for place, who in enumerate(NAMES)]
    rows += [{"text": f"Still, {each} euros are {('Peanuts', 'Money', 'Fun')[each % 3]}."} for each in range(21, 61)]
    assert {fact.subject for fact in discover(written(tmp_path, *rows)).pack.facts} == {*NAMES}


def test_the_stop_behind_a_firm_that_ends_a_sentence_is_none_of_its_name(tmp_path):
    """Others of the file are called Ltd, too, where no sentence ends; and not all are."""
    kinds = ("Ltd", "Foods", "Ltd", "Labs")
    firms = {f"{who.split()[1]} {kinds[place % 4]}": ("gas", "coal")[place % 2] for place, who in enumerate(NAMES)}
    half = len(NAMES) // 2
    rows = [{"text": f"{firm} burns {each}, they say." if place < half else f"There is {each} on the bill of {firm}."}
            for place, (firm, each) in enumerate(firms.items())]  # fmt: skip
    facts = discover(written(tmp_path, *rows)).pack.facts
    assert {fact.subject: fact.answer for fact in facts} == firms
