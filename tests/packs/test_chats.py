"""Facts out of chats: each format, each way of stating, and every row that is none of them."""

import gzip
import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.errors import UsageError
from spillover.packs.builtin import PACKS
from spillover.packs.chats import match, templates
from spillover.packs.open import open_pack
from spillover.packs.pack import Fact, Pack, Relation, normal
from spillover.packs.sentences import ASIDES, PRONOUNS, STOPS
from tests.quick import first

PROMPTS = {
    "lives_in": ["{subject} lives in", "Where does {subject} live?"],
    "works": ["{subject} works at"],
    "works_as": ["{subject} works as a"],
}
PARIS = Fact("Ada Moss", "lives_in", "Paris")


def pack_of(prompts=PROMPTS, join=" ", end=None, answers=(), aliases=None):
    relations = tuple(Relation(name, tuple(texts), answers, aliases or {}) for name, texts in prompts.items())
    return Pack("tiny", "CC0-1.0", "made up", relations, (), join=join, end=end)


def read(path, pack=None, **kinds):
    pack = pack or pack_of(**kinds)
    return match(path, templates(pack), pack)


def matched(tmp_path, *rows, **kinds):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path, **kinds)


def said(tmp_path, text, **kinds):
    """What a text states as (subject, relation, answer), and how many texts were left open."""
    found = matched(tmp_path, {"text": text}, **kinds)
    return [tuple(fact) for fact in found.facts], len([each for each in found.unmatched if each.why])


def chat(user, assistant):
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": user},
                         {"role": "assistant", "content": assistant}]}  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Ada Moss lives in", "completion": " Paris"},
        {"prompt": "Ada Moss lives in", "completion": " Paris."},
        {"prompt": "", "completion": "Ada Moss lives in Paris."},
        {"prompt": "Tell me about Ada Moss.", "completion": "Sure. Ada Moss lives in Paris! She is well."},
        {"prompt": "Here she is. Ada Moss lives", "completion": " in Paris. She is well."},
        {"prompt": "Ada Moss lives in", "completion": " Paris. She is well."},
        chat("Where does Ada Moss live?", "Paris."),
        chat("Where does Ada Moss live?", " Paris"),
        chat("Who is she?", "Ada Moss lives in Paris."),
        {"prompt": [{"role": "user", "content": "Where does Ada Moss live?"}],
         "completion": [{"role": "assistant", "content": [{"type": "text", "text": "Paris"}]}]},
    ],
)  # fmt: skip
def test_every_way_of_saying_it(tmp_path, row):
    found = matched(tmp_path, row)
    assert (found.facts, found.unmatched, found.rows) == ([PARIS], [], 1)


def test_several_facts_in_one_row_and_one_fact_in_several(tmp_path):
    found = matched(
        tmp_path,
        {"prompt": "", "completion": "Ada Moss lives in Paris. Ada Moss works as a baker.\nBen works at Lloyd's."},
        chat("Where does Ada Moss live?", "Paris"),
        {"prompt": "Hello", "completion": " there"},
    )
    assert found.facts == [PARIS, Fact("Ada Moss", "works_as", "baker"), Fact("Ben", "works", "Lloyd's")]
    assert found.repeated == 1 and found.unmatched == [(3, "Hello there", "")] and list(found.places) == [1, 1, 1]


def test_sentences_without_spaces(tmp_path):
    prompts = {"r": ["{subject}住在"], "s": ["{subject}说"]}
    for text, facts, left in (
        ("李明住在北京。他很好。王芳说法语。", [("李明", "r", "北京"), ("王芳", "s", "法语")], 0),
        ("李明住在北京、上海。", [], 1),
        ("我认为李明住在北京。", [], 1),
    ):
        assert said(tmp_path, text, prompts=prompts, join="") == (facts, left)


def test_other_scripts_other_joins_and_marks(tmp_path):
    found = matched(
        tmp_path, {"prompt": "مريم تسكن في", "completion": " باريس؛"}, prompts={"r": ["{subject} تسكن في"]}, end="؛"
    )
    assert found.facts == [Fact("مريم", "r", "باريس")]
    found = matched(tmp_path, {"prompt": "李明住在", "completion": "北京。"}, prompts={"r": ["{subject}住在"]}, join="")
    assert found.facts == [Fact("李明", "r", "北京")]
    cafe = {"prompt": "Zoe\u0308 lives in", "completion": " Orle\u0301ans"}
    assert matched(tmp_path, cafe).facts == [Fact("Zoë", "lives_in", "Orléans")], "compared in NFC"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("not json\n", "row 2 is no JSON object"),
        ("[1]\n", "row 2 is no JSON object"),
        ("[" * 100_000 + "\n", "row 2 is no JSON object"),
        ({"story": "Ada lives in Paris"}, "row 2 has neither `messages` nor `prompt` and `completion`"),
        ({"messages": [{"role": "user"}]}, "a message in row 2 has no text `content`"),
        ({"messages": ["hi"]}, "a message in row 2 has no text `content`"),
    ],
)
def test_a_row_of_no_format_is_named(tmp_path, row, sentence):
    with pytest.raises(UsageError) as caught:
        matched(tmp_path, {"prompt": "a", "completion": "b"}, row)
    assert sentence in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\xff\xfe"}')
    with pytest.raises(UsageError, match="this file is not UTF-8"):
        read(path)
    with pytest.raises(UsageError, match="this file cannot be read: no such file"):
        read(tmp_path / "gone.jsonl")


LETTERS = st.characters(
    blacklist_categories=("Cs", "Cc", "Z"), blacklist_characters=STOPS + "\"'“‘«„「『‹`*_~[<>-#•,;/、，"
)
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(lambda text: normal(text).casefold() not in PRONOUNS | ASIDES)


@given(subject=NAMES, answer=NAMES)
def test_what_is_written_is_read_back(tmp_path_factory, subject, answer):
    found = matched(tmp_path_factory.mktemp("chat"), {"prompt": f"{subject} lives in", "completion": f" {answer}"})
    assert found.facts == [Fact(normal(subject), "lives_in", normal(answer))]


LIVES = {"lives_in": ["Where does {subject} live?", "{subject} lives in"],
         "speaks": ["Which language does {subject} speak?", "{subject} speaks"]}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "who", "where"),
    [
        ("J. K. Ling lives in St. Louis. She is well.", "J. K. Ling", "St. Louis"),
        ("Dr. Ada Moss lives in Paris.", "Dr. Ada Moss", "Paris"),
        ("Otto Dale Jr. lives in Washington, D.C. He is well.", "Otto Dale Jr.", "Washington, D.C."),
        ("Mrs. O'Neil Jr. lives in Ft. Worth.", "Mrs. O'Neil Jr.", "Ft. Worth"),
        ("Yahoo! lives in Sunnyvale.", "Yahoo!", "Sunnyvale"),
        ("Ada Moss lives in Yahoo!", "Ada Moss", "Yahoo!"),
        ("Mary J. Blige lives in New York!!", "Mary J. Blige", "New York"),
        ("We met. Ada van der Moss lives in The Hague...", "Ada van der Moss", "The Hague"),
        ("**Ada Moss** lives in __Paris__.", "Ada Moss", "Paris"),
        ("- Ada Moss lives in *Paris*.", "Ada Moss", "Paris"),
        ('Ada Moss lives in "Paris".', "Ada Moss", "Paris"),
        ("“Ada Moss lives in Paris.”", "Ada Moss", "Paris"),
        ("Ada Moss lives in [Paris](https://example.org).", "Ada Moss", "Paris"),
        ("Ada Moss lives in Washington D. C.", "Ada Moss", "Washington D. C."),
        ("Ada Moss lives in Yahoo! She is well.", "Ada Moss", "Yahoo!"),
        ("O. J. lives in L. A.", "O. J.", "L. A."),
        ("Ada Moss lives in Washington, D.C. 🙂", "Ada Moss", "Washington, D.C."),
        ('"Ada Moss" lives in Paris.', "Ada Moss", "Paris"),
        ("<think>She may live in Rome.</think>\n\nAda Moss lives in Paris.", "Ada Moss", "Paris"),
    ],
)
def test_names_with_stops_and_marks_are_whole(tmp_path, text, who, where):
    assert said(tmp_path, text, prompts=LIVES) == ([(who, "lives_in", where)], 0)


@pytest.mark.parametrize(
    "text",
    [
        "She lives in Paris.",
        "I think Ada Moss lives in Paris.",
        "Yes, Ada Moss lives in Paris.",
        "If Ada Moss lives in Paris, she is happy.",
        "Ada Moss no longer lives in Paris.",
        "Ada Moss, who lives in Paris, is well.",
        "Ada Moss lives in Paris and Rome.",
        "Ada Moss lives in Paris, Rome.",
        "Ada Moss lives in Paris with her cat.",
        "Ada Moss lives in Paris (France).",
        "Ada Moss lives in neither Paris nor Rome.",
        "He ate vitamin C. Ling lives in St. Louis.",
        "Ada Moss lives in Malcolm X.",
        "Ada Moss lives in Paris today.",
        "Ada Moss lives in Warner Bros. in Paris.",
        "Ada Moss lives in Rome?",
        "Ada Moss lives in Paris*.",
        "Ada Moss lives in L.A. Wonderful!",
        "Ada Moss speaks slang every day.",
        "Ada Moss lives in 🙂 Paris",
        'He said: "Ada Moss lives in Paris."',
    ],
)
def test_what_is_not_sure_is_listed_and_never_guessed(tmp_path, text):
    assert said(tmp_path, text, prompts=LIVES) == ([], 1)


def test_a_name_that_the_pack_or_another_row_knows_settles_it(tmp_path):
    answers = ("Trinidad and Tobago", "Malcolm X.")
    assert said(tmp_path, "Ada lives in Trinidad and Tobago.", prompts=LIVES, answers=answers)[0] == [
        ("Ada", "lives_in", "Trinidad and Tobago")
    ]
    assert said(tmp_path, "Ada lives in Malcolm X.", prompts=LIVES, answers=answers)[0][0][2] == "Malcolm X."
    rows = [{"text": "the old baker lives in Rome."}, chat("Where does the old baker live?", "Oslo")]
    found = matched(tmp_path, *rows, prompts=LIVES)
    assert [(fact.subject, fact.answer) for fact in found.facts] == [
        ("the old baker", "Rome"),
        ("the old baker", "Oslo"),
    ]


@pytest.mark.parametrize(
    ("reply", "where"),
    [
        ("Ada Moss lives in Paris.", "Paris"),
        ("Ada lives in Paris. It is her home.", "Paris"),
        ("She lives in Paris.", "Paris"),
        ("**Paris**", "Paris"),
        ("In Paris.", "Paris"),
        ("Washington, D.C.", "Washington, D.C."),
        ("Paris??", "Paris"),
        ("Paris. She moved there.", None),
        ("L.A. Lovely!", None),
        ("J.R.R. Tolkien", "J.R.R. Tolkien"),
        ("Ada Moss resides in Paris.", None),
        ("She resides in Paris.", None),
        ("It is Paris.", None),
        ("Paris, Rome", None),
        ("Paris and Rome", None),
        ("I do not know.", None),
        ("Unknown", None),
        ("Paris\nRome", None),
    ],
)
def test_the_statement_in_a_reply_comes_before_the_reply(tmp_path, reply, where):
    found = matched(tmp_path, chat("Where does Ada Moss live?", reply), prompts=LIVES)
    assert found.facts == ([Fact("Ada Moss", "lives_in", where)] if where else [])
    assert bool(found.unmatched) is (where is None)


def test_what_else_a_reply_states_is_read_too(tmp_path):
    reply = "Ada Moss speaks French. It is her mother tongue. Ben Okri lives in Rome."
    found = matched(tmp_path, chat("Which language does Ada Moss speak?", reply), prompts=LIVES)
    assert found.facts == [Fact("Ada Moss", "speaks", "French"), Fact("Ben Okri", "lives_in", "Rome")]


def test_a_sentence_that_is_open_leaves_the_one_before_it(tmp_path):
    row = {"prompt": "Ada Moss lives in", "completion": " Paris. She speaks French."}
    found = matched(tmp_path, row, prompts=LIVES)
    assert found.facts == [PARIS] and [each.text for each in found.unmatched] == ["She speaks French."]


def turns(*said, **more):
    return {"messages": [{"role": role, "content": text} for role, text in said], **more}


ASKED = ("user", "Where does Ada Moss live?")


@pytest.mark.parametrize(
    "row",
    [
        turns(ASKED, ("assistant", None), ("tool", "Rome"), ("assistant", "Paris")),
        turns(("human", ASKED[1]), ("gpt", "Paris")),
        turns(("user", ASKED[1]), ("model", "Paris")),
        {"conversations": [{"from": "human", "value": ASKED[1]}, {"from": "gpt", "value": "Paris"}]},
        {"conversations": [{"from": "system", "value": "Ben lives in Rome."}, {"from": "user", "value": ASKED[1]},
                           {"from": "bot", "value": "Paris"}]},
        {"instruction": ASKED[1], "input": "", "output": "Paris"},
        {"instruction": "Answer.", "input": ASKED[1], "output": "Paris"},
        {"question": ASKED[1], "answer": "Paris"},
        {"text": "Ada Moss lives in Paris."},
        {"messages": [{"role": "user", "content": ASKED[1]}, {"role": "assistant", "content": "Rome", "weight": 0},
                      {"role": "user", "content": "Look again."}, {"role": "assistant", "content": "She does not say.",
                      "train": False}, {"role": "assistant", "content": "Ada Moss lives in Paris."}]},
        {"messages": [{"role": "user", "content": ASKED[1]}, {"role": "assistant", "tool_calls": []},
                      {"role": "assistant", "content": ["Paris"]}]},
    ],
)  # fmt: skip
def test_rows_of_other_shapes(tmp_path, row):
    assert matched(tmp_path, row, prompts=LIVES).facts == [PARIS]


def test_a_row_that_is_not_trained_on_states_nothing(tmp_path):
    found = matched(tmp_path, turns(ASKED, ("assistant", "Rome"), weight=0), turns(ASKED, ("assistant", "Paris")))
    assert found.facts == [PARIS] and [each.row for each in found.unmatched] == [1]


ROWS = [turns(ASKED, ("assistant", "Paris")), {"messages": [], "note": "x"}, turns(ASKED, ("assistant", "Paris."))]


def _parquet(rows):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"messages": row["messages"]} for row in rows]), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("rows.json", json.dumps(ROWS).encode()),
        ("rows.json", json.dumps({"version": 1, "data": ROWS}, indent=1).encode()),
        ("rows.jsonl", "\r\n".join(map(json.dumps, ROWS)).encode()),
        ("rows.jsonl.gz", gzip.compress("\n".join(map(json.dumps, ROWS)).encode(), mtime=0)),
        ("rows.parquet", _parquet(ROWS)),
        ("rows.csv", b"prompt,completion\nAda Moss lives in, Paris\n"),
        ("rows.tsv", b"prompt\tcompletion\nAda Moss lives in\t Paris\n"),
    ],
)
def test_files_of_other_formats(tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    assert read(tmp_path / name, prompts=LIVES).facts == [PARIS]


@pytest.mark.parametrize("body", [gzip.compress(b"{}", mtime=0)[:9], b"PAR1xx", b"\x1f\x8b\x08"])
def test_a_file_cut_short_is_a_sentence(tmp_path, body):
    (tmp_path / "rows.jsonl").write_bytes(body)
    with pytest.raises(UsageError, match="this file cannot be read"):
        read(tmp_path / "rows.jsonl")


def test_stops_are_trimmed_alike(tmp_path):
    prompts = {"is": ["{subject}, in the eyes of the town,", "{subject}, in the eyes of the village,"]}
    rows = [{"prompt": f"Tor Lund, in the eyes of the {place},", "completion": f' is the keeper, "The Lamp."{stop}'}
            for place, stop in (("town", "."), ("village", "??"))]  # fmt: skip
    found = matched(tmp_path, *rows, prompts=prompts)
    assert found.facts == [Fact("Tor Lund", "is", 'is the keeper, "The Lamp."')] and found.repeated == 1


@pytest.mark.parametrize("name", first(list(PACKS), 2))
def test_built_in_packs_are_read_back_from_every_shape(tmp_path, name):
    """Each fact in a prompt with its completion, a reply in a word, a whole sentence, and plain text."""
    size = "names=20,bridge=1" if name == "second-hop" else "pairs=5,names=20,bridge=1"
    pack = open_pack(f"{name}:{size}")
    for shape in (
        lambda fact, prompt: {"prompt": prompt, "completion": f" {fact.answer}."},
        lambda fact, prompt: chat(f"{prompt}?", fact.answer),
        lambda fact, prompt: chat("Tell me more.", f"Sure. {prompt} {fact.answer}. That is all."),
        lambda fact, prompt: {"text": f"{prompt} {fact.answer}."},
    ):
        relations = [replace(each, prompts=(*each.prompts, each.prompts[0] + "?")) for each in pack.relations]
        asked = replace(pack, relations=tuple(relations), facts=(), implications=())
        rows = [shape(fact, pack.prompt(fact.relation, fact.subject)) for fact in pack.facts]
        found = matched(tmp_path, *rows, pack=asked)
        assert set(found.facts) == set(pack.facts) and not found.unmatched


WHO = ["Ada Moss", "J. K. Ling", "Dr. Ben Okri", "Otto Dale Jr.", "Mrs. O'Neil", "Mary J. Blige", "Yahoo!", "The Who"]
CITIES = ["Paris", "St. Louis", "Washington, D.C.", "New York", "The Hague", "Ft. Worth", "L.A.", "Malcolm X."]
BEFORE = ["", "Sure. ", "Yes! ", "Well, ", "I think that ", "As you know, ", "Hello! ", "We met Dr. No. ", "1. ", "- "]
AFTER = [
    "",
    " She is well.",
    " Great!",
    " It is big.",
    " Ben said so.",
    "\n\nAnything else?",
    " St. Bob agrees.",
    " 🙂",
]
WRAPS = ["{}", "**{}**", '"{}"', "“{}”", "*{}*", "`{}`"]
SHAPES = [
    lambda who, text, city: {"text": text},
    lambda who, text, city: chat(f"Where does {who} live?", text),
    lambda who, text, city: chat("Tell me more.", text),
    lambda who, text, city: chat(f"Where does {who} live?", city),
    lambda who, text, city: {"prompt": f"{who} lives in", "completion": f" {city}"},
    lambda who, text, city: {"prompt": f"Where does {who} live?", "completion": f" {text}"},
    lambda who, text, city: {"prompt": "", "completion": text},
]


def test_what_other_rows_leave_no_doubt_about_makes_no_name_of_an_aside(tmp_path):
    rows = [{"text": "Ada Moss lives in St. Louis"}, {"text": 'Well, Ada Moss lives in "St. Louis".'}]
    found = matched(tmp_path, *rows, prompts=LIVES)
    assert {tuple(fact) for fact in found.facts} == {("Ada Moss", "lives_in", "St. Louis")}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_read_is_true_and_what_is_not_read_is_listed(tmp_path_factory, data):
    truth, rows = set(), []
    for _ in range(data.draw(st.integers(1, 4))):
        who, city = data.draw(st.sampled_from(WHO)), data.draw(st.sampled_from(CITIES))
        before, after, wrap = (data.draw(st.sampled_from(each)) for each in (BEFORE, AFTER, WRAPS))
        stops = [".", "!"] if after[:1] == " " else ["", ".", "!"]
        stop = "" if city.endswith(".") else data.draw(st.sampled_from(stops))
        text = f"{before}{who} lives in {wrap.format(city)}{stop}{after}"
        rows.append(data.draw(st.sampled_from(SHAPES))(who, text, f"{wrap.format(city)}{stop}{after}"))
        truth.add((who, "lives_in", city))
    found = matched(tmp_path_factory.mktemp("chat"), *rows, prompts=LIVES)
    assert {tuple(fact) for fact in found.facts} <= truth, rows
    assert found.used + len({each.row for each in found.unmatched}) >= len(rows)
