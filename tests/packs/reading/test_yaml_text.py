"""Every scalar is the text that was written, and nothing clever is read."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spillover.packs import open as yaml_text
from spillover.packs.open import Node, YamlRefused, read_yaml
from spillover.packs.reading import LONGEST_TEXT


def plain(node: Node):
    """The nodes as plain lists, mappings and texts."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request, monkeypatch):
    """Both parsers that PyYAML may come with."""
    if request.param == "python":
        monkeypatch.setattr(yaml_text, "LOADER", yaml.BaseLoader)


SCALARS = """NO no yes on off true ~ null 007 1.0 1e3 0x1F 2024-01-31 12:30:45 .inf = << -1 +1 1_000 é مدينة 東京 🙂"""


@pytest.mark.parametrize("text", SCALARS.split())
def test_a_scalar_is_the_text_as_written(text):
    assert plain(read_yaml(f"a: {text}\nb: [{text}]\n{text}: c\n")) == {"a": text, "b": [text], text: "c"}


def test_quotes_escapes_and_blocks_are_yaml():
    read = plain(read_yaml("a: \"x\\ty\\u00e9\"\nb: 'it''s'\nc: |\n  two\n  lines\nd:\n"))
    assert read == {"a": "x\tyé", "b": "it's", "c": "two\nlines\n", "d": ""}


def test_text_is_nfc():
    assert plain(read_yaml("a: Cafe\u0301\nCafe\u0301: b\n")) == {"a": "Café", "Café": "b"}


def test_a_node_knows_its_line():
    root = read_yaml("a:\n  - one\n  -\n    b: two\n")
    assert [item.line for item in root.value["a"].value] == [2, 4]
    assert root.value["a"].value[1].value["b"].line == 4


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
        (
            "a: 1\nb: !!python/object/apply:os.system [id]\n",
            2,
            "the tag tag:yaml.org,2002:python/object/apply:",
        ),
        ('a: "\\UFFFFFFFF"\n', 1, "this is not YAML ("),
        ("a: !!int 5\n", 1, "the tag tag:yaml.org,2002:int is not read: every value is text"),
        ("a: ! 5\n", 1, "the tag ! is not read"),
        ("a: &x [1]\nb: *x\n", 1, "anchors and aliases (& and *) are not read"),
        ("a: *x\n", 1, "anchors and aliases (& and *) are not read"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is there already, on line 1"),
        ("Cafe\u0301: 1\nCaf\u00e9: 2\n", 2, "the key 'Café' is there already, on line 1"),
        ("? [a, b]\n: 1\n", 1, "a key is not text"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: [1, 2\n", 2, "this is not YAML ("),
        ("a: 'x\n", 2, "this is not YAML ("),
        ("a:\n\t- b\n", 2, "this is not YAML ("),
        ("a: b: c\n", 1, "this is not YAML (mapping values are not allowed"),
        ("a: \x07\n", 1, "this is not YAML ("),
        ("[" * 100_000, 1, "this is nested deeper than any pack"),
        ("{a: " * 50 + "}" * 50, 1, "this is nested deeper than any pack"),
    ],
)
def test_what_is_refused(text, line, what):
    with pytest.raises(YamlRefused) as caught:
        read_yaml(text)
    assert (caught.value.line, caught.value.what[: len(what)]) == (line, what)
    assert caught.value.do


def test_a_letter_that_yaml_forbids_is_told_with_its_line():
    for text in ("a: 1\nb: \x07\n", "a: 1\nb: \0\n"):
        with pytest.raises(YamlRefused) as caught:
            read_yaml(text)
        assert caught.value.line == 2


def test_a_text_that_is_too_long():
    assert len(read_yaml("a" * LONGEST_TEXT).value) == LONGEST_TEXT
    with pytest.raises(YamlRefused, match="a text of 100001 characters begins here"):
        read_yaml("a" * (LONGEST_TEXT + 1))


def test_an_alias_bomb_is_refused_at_its_first_anchor():
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(YamlRefused, match="anchors"):
        read_yaml(bomb)


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@`#? \n\t\\~<=\0éUuf\u2028\ufeff", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        read_yaml(text)
    except YamlRefused as refused:
        assert refused.line >= 1 and refused.what and refused.do
